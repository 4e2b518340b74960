// The kernels of a model's training step on the CPU, each shape once: products, attention, and the head with the loss,
// against the arithmetic peak of the processor. Only shapes are needed; weights are synthetic.
//
//   npm run build && node benchmarks/laboratory/kernels.mjs MODEL [--batch 1] [--seq-len 512] [--rank 16] [--rounds 9]
//     [--format nf4_double] [--precision auto|fp32|bf16] [--level NAME] [--threads N] [--json]
//
// MODEL is a folder, a .gguf file, or a lone config.json. The best of the rounds counts. The peak is that of a loop of
// multiply-adds between the rounds: FMA, bf16 dot products, or AMX tiles, depending on level and precision.
import { parseArgs } from 'node:util'
import { digits, table } from '../../dist/esm/cli/format.js'
import { formatBytes } from '../../dist/esm/core/bytes.js'
import { addon } from '../../dist/esm/native/addon.js'
import { openShape } from '../../dist/esm/planning/plan.js'
import { resolvePrecision } from '../../dist/esm/weights/choice.js'
import { laboratory } from './load.mjs'

const { values: flags, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    batch: { type: 'string', default: '1' },
    'seq-len': { type: 'string', default: '512' },
    rank: { type: 'string', default: '16' },
    rounds: { type: 'string', default: '9' },
    format: { type: 'string', default: 'nf4_double' },
    precision: { type: 'string', default: 'auto' },
    level: { type: 'string' },
    threads: { type: 'string' },
    json: { type: 'boolean', default: false },
  },
})
const [model] = positionals
if (model === undefined) throw new Error('name a model: node benchmarks/laboratory/kernels.mjs MODEL')
const { describeKernel, kernelsOf, measureKernels } = await laboratory('kernels')
const { level: isa, threads, format } = flags
addon().configure({ ...(isa && { isa }), ...(threads && { threads: Number(threads) }) })
const { isa: used, threads: pool } = addon().cpu()
if (!['auto', 'fp32', 'bf16'].includes(flags.precision))
  throw new Error(`--precision ${flags.precision}: expected auto, fp32, or bf16`)
const precision = resolvePrecision(flags.precision)
const [rounds, rank, batch, length] = ['rounds', 'rank', 'batch', 'seq-len'].map((name) => {
  const value = Number(flags[name])
  if (!Number.isInteger(value) || value < 1)
    throw new Error(`--${name} ${flags[name]}: expected a whole number from 1`)
  return value
})
const settings = { rank, perDeviceTrainBatchSize: batch, maxSeqLength: length, format, precision }
const rates = await measureKernels(
  kernelsOf(await openShape(model), settings),
  { precision, rounds, isa: used, threads: pool },
  (what, done, total) => console.error(`${done + 1} of ${total}: ${what}`),
)
if (flags.json)
  console.log(JSON.stringify({ ...settings, level: used, threads: pool, kernels: rates }, null, 2))
else {
  const percent = (share) => (share === null ? '' : `${(100 * share).toFixed(0)} %`)
  const rows = rates.map(({ subject, count, name, operationsPerSecond, shareOfPeak, seconds }) => [
    ...[describeKernel(subject), String(count), name.replace('_', ' '), digits(operationsPerSecond / 1e9)],
    ...[percent(shareOfPeak), digits(1e3 * seconds)],
  ])
  const head = ['kernel', 'times a step', '', 'GFLOP/s', 'of the peak', 'ms']
  console.log(table([head, ...rows], [1, 3, 4, 5]))
  const setting = `${batch * length} tokens, weights as ${format}, ${precision === 'f32' ? 'fp32' : precision}, level ${used}, threads: ${pool}`
  console.log(`\n${setting}; best of ${rounds} rounds.`)
  for (const { extraBytes } of rates)
    if (extraBytes !== undefined) console.log(`Head and loss allocated ${formatBytes(extraBytes)}.`)
}
