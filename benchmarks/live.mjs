// Cost of the live page to a run: CPU time of the process that trains, with an open page and without a server, by turns.
//
//   LOWRANK_THREADS=1 node benchmarks/live.mjs MODEL [--steps 40] [--tokens 512] [--pages 1] [--rounds 9] [--json]
//
// MODEL is a folder or a .gguf file. A round trains LoRA of rank 16 on NF4 weights twice, from the same start; one of the
// runs is served, and read by other processes, which open its page and follow its events. The page is rendered, and the
// log read and sent, in the process that trains. The ratio is the median over the rounds.
import { spawn } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { loadModel, lora } from '../dist/esm/index.js'
import { ownControls } from '../dist/esm/report/live/controls.js'
import { livePage } from '../dist/esm/report/live/page.js'
import { serveLive } from '../dist/esm/report/live/server.js'
import { cpuSeconds, median, textRows } from './measure.mjs'

const { values: options, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    steps: { type: 'string', default: '40' },
    tokens: { type: 'string', default: '512' },
    pages: { type: 'string', default: '1' },
    rounds: { type: 'string', default: '9' },
    json: { type: 'boolean', default: false },
  },
})
if (positionals.length !== 1) throw new Error('name a model: node benchmarks/live.mjs MODEL')

const [steps, tokens, pages, rounds] = ['steps', 'tokens', 'pages', 'rounds'].map((key) =>
  Number(options[key]),
)
const model = await loadModel(positionals[0], { quantization: 'nf4' })
const rows = textRows(8, tokens)

/** A process that opens a page and follows the events of the run. */
const READER = `
const [url] = process.argv.slice(1)
const { origin, search } = new URL(url)
await (await fetch(url)).text()
const { body } = await fetch(origin + '/events' + search)
process.stdout.write('open')
for await (const _ of body);
`

async function reader(url) {
  const child = spawn(process.execPath, ['--input-type=module', '-e', READER, url])
  await new Promise((resolve) => child.stdout.once('data', resolve))
  return child
}

/** CPU seconds of a run. */
async function measured(served) {
  const folder = mkdtempSync(join(tmpdir(), 'lowrank-live-'))
  const adapter = await model.attach(lora({ r: 16 }), { seed: 1 })
  const run = adapter.train(rows, {
    maxSteps: steps,
    perDeviceTrainBatchSize: 1,
    maxSeqLength: tokens,
    packing: false,
    outputDir: join(folder, 'out'),
  })
  const log = join(folder, 'out', 'metrics.jsonl')
  const serve = { log: () => log, page: () => livePage('run', log), controls: ownControls(() => run) }
  const server = served ? await serveLive(serve) : undefined
  const readers = server ? await Promise.all(Array.from({ length: pages }, () => reader(server.url))) : []
  const before = cpuSeconds()
  for await (const _ of run);
  const seconds = cpuSeconds() - before
  await server?.close()
  for (const child of readers) child.kill()
  await adapter.detach()
  rmSync(folder, { recursive: true })
  return seconds
}

await measured(true)
const ratios = []
const plain = []
for (let round = 0; round < rounds; round++) {
  const order = round % 2 === 0 ? [false, true] : [true, false]
  const seconds = {}
  for (const served of order) seconds[served] = await measured(served)
  ratios.push(seconds.true / seconds.false)
  plain.push(seconds.false)
}
await model.dispose()

const result = {
  model: positionals[0],
  ...{ steps, tokens, pages, rounds },
  cpu_seconds_per_step: median(plain) / steps,
  ratio: median(ratios),
  lowest: Math.min(...ratios),
  highest: Math.max(...ratios),
}
if (options.json) console.log(JSON.stringify(result))
else {
  const percent = (ratio) => `${((ratio - 1) * 100).toFixed(2)} %`
  console.log(
    `${(result.cpu_seconds_per_step * 1000).toFixed(1)} ms of CPU time a step; with ${pages} open page${pages === 1 ? '' : 's'} ${percent(result.ratio)} more (${percent(result.lowest)} to ${percent(result.highest)} in ${rounds} rounds)`,
  )
}
