/** A user of the example app: chooses files, trains, pauses, and continues, or quits; prints what the window showed as JSON. */
import { createRequire } from 'node:module'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { pathToFileURL } from 'node:url'

const [folder, how] = process.argv.slice(2)
const main = join(folder, 'main.mjs')
await import(pathToFileURL(main).href)
const { app } = createRequire(main)('electron')
const element = (id) => document.getElementById(id)

/** Waits for a status of the window; resolves to the milliseconds that it took. */
async function shown(status) {
  const begin = performance.now()
  while (!status.test(element('status').textContent ?? '')) await sleep(1)
  return performance.now() - begin
}

await element('model').onclick()
await element('data').onclick()
if (how !== 'resume') element('train').onclick()
else if (!element('resume').disabled) element('resume').onclick()
const seen = { pauses: [] }
await shown(/^Step \d+ of \d+: loss \d/)
if (how === 'quit') app.quit()
for (let i = 0; how === 'pause' && i < 3; ++i) {
  element('pause').onclick()
  seen.pauses.push(await shown(/^Paused after step \d+/))
  seen.label = element('pause').textContent
  const { value } = element('progress')
  await sleep(200)
  seen.moved = element('progress').value - value
  element('pause').onclick()
  await shown(/^Step/)
}
await shown(/^The adapter is in/)
seen.status = element('status').textContent
seen.progress = { value: element('progress').value, max: element('progress').max }
process.stdout.write(JSON.stringify(seen))
app.quit()
