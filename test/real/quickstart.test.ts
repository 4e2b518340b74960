/** The commands of docs/quickstart.md, on the model that the page uses. */
import { execFileSync } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { expect, it } from 'vitest'
import { fetchSmolLm2 } from './smollm2.js'

const fetched = await fetchSmolLm2()
const why = 'skipped' in fetched ? fetched.skipped : ''
if (why) console.warn(`Skipping the quick start: ${why}`)

it.skipIf(why !== '')('print what the page shows', () => {
  const script = fileURLToPath(new URL('../../scripts/transcripts.mjs', import.meta.url))
  const model = 'path' in fetched ? fetched.path : ''
  const run = () => execFileSync(process.execPath, [script, '--check', '--model', model, 'quickstart'])
  expect(run).not.toThrow()
})
