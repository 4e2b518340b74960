// Time of a training step as a function of its tokens and of the layers of the model.
//
//   npm run build && node benchmarks/growth.mjs MODEL [--quantization nf4] [--precision bf16] [--rounds 3]
//     [--steps 4] [--tokens 512,1024,2048,4096,8192] [--layers 8,16,24,30] [--json]
//
// MODEL is a folder or a .gguf file. Tokens come as sequences of 512, more of them for a longer step: attention sees no
// further than its sequence, so time over tokens should be a straight line through zero. Layers are the first so many
// of the model, at 2048 tokens: time over layers should be a straight line that starts at what embedding and head take.
// Each setting runs in a process of its own, all settings once in every round, for so many steps of which the first
// does not count; times are medians, in wall and CPU seconds. With LOWRANK_THREADS=1 CPU times hold on a busy machine
// too.
import { execFileSync } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { median } from './measure.mjs'

const { values: options, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    quantization: { type: 'string', default: 'nf4' },
    precision: { type: 'string', default: 'bf16' },
    tokens: { type: 'string', default: '512,1024,2048,4096,8192' },
    layers: { type: 'string', default: '8,16,24,30' },
    rounds: { type: 'string', default: '3' },
    steps: { type: 'string', default: '4' },
    json: { type: 'boolean', default: false },
  },
})
if (positionals.length !== 1) throw new Error('name one model: node benchmarks/growth.mjs MODEL')
const LENGTH = 512
const script = fileURLToPath(new URL('peers/lowrank_train.mjs', import.meta.url))

function secondsOf({ tokens, layers }) {
  const { quantization, precision } = options
  const args = [script, positionals[0], '--quantization', quantization, '--precision', precision]
  args.push(
    '--gradient-checkpointing',
    '--steps',
    options.steps,
    '--warmup',
    '1',
    '--batch',
    String(tokens / LENGTH),
  )
  if (layers !== undefined) args.push('--layers', String(layers))
  const lines = execFileSync(process.execPath, args, { encoding: 'utf8' }).trim().split('\n')
  const { tokens_per_second, tokens_per_cpu_second } = JSON.parse(lines.at(-1))
  return { wall: tokens / tokens_per_second, cpu: tokens / tokens_per_cpu_second }
}

/** Least squares of y = start + slope x, or without a start; and by how much of it a point is off at most. */
function line(xs, ys, throughZero) {
  const mean = (values) => values.reduce((sum, value) => sum + value, 0) / values.length
  const [mx, my] = throughZero ? [0, 0] : [mean(xs), mean(ys)]
  const slope = mean(xs.map((x, i) => (x - mx) * (ys[i] - my))) / mean(xs.map((x) => (x - mx) ** 2))
  const start = my - slope * mx
  return { start, slope, off: Math.max(...xs.map((x, i) => Math.abs(ys[i] / (start + slope * x) - 1))) }
}

const numbers = (list) => list.split(',').map(Number)
const settings = [
  ...numbers(options.tokens).map((tokens) => ({ axis: 'tokens', at: tokens, tokens })),
  ...numbers(options.layers).map((layers) => ({ axis: 'layers', at: layers, tokens: 2048, layers })),
]
const times = settings.map(() => [])
for (let round = 0; round < Number(options.rounds); round++)
  for (const [i, setting] of settings.entries()) times[i].push(secondsOf(setting))

const results = ['tokens', 'layers'].map((axis) => {
  const points = settings.flatMap((setting, i) =>
    setting.axis === axis
      ? [
          {
            at: setting.at,
            ...Object.fromEntries(['wall', 'cpu'].map((c) => [c, median(times[i].map((t) => t[c]))])),
          },
        ]
      : [],
  )
  const fitted = (clock) =>
    line(
      points.map(({ at }) => at),
      points.map((point) => point[clock]),
      axis === 'tokens',
    )
  return { axis, points, wall: fitted('wall'), cpu: fitted('cpu') }
})
if (options.json) console.log(JSON.stringify(results, null, 2))
else
  for (const { axis, points, wall, cpu } of results) {
    for (const point of points)
      console.log(
        `${String(point.at).padStart(5)} ${axis}: ${point.wall.toFixed(3)} s, CPU time ${point.cpu.toFixed(3)} s`,
      )
    const percent = ({ off }) => `${(100 * off).toFixed(1)} %`
    console.log(`off a straight line by ${percent(wall)} at most, by CPU time ${percent(cpu)}`)
  }
