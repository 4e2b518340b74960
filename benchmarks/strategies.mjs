// The time of a training step of every strategy, as a ratio to LoRA's, on one model.
//
//   npm run build && node benchmarks/strategies.mjs MODEL [--quantization nf4] [--rank 16] [--tokens 512] [--rounds 5]
//     [--strategies dora,lokr] [--precision auto] [--peft FOLDER --python PYTHON] [--json]
//
// MODEL is a folder or a .gguf file. A round trains each strategy for two steps, one after the other, and takes the
// second; the ratio is the median over the rounds of the ratios within a round, so that a machine that is busy for a
// while slows both sides. On a machine that others use, read the ratios of CPU time, with LOWRANK_THREADS=1: threads
// that wait for one another spin. Strategies are on all linears of the blocks, at the same rank where they have one.
//
// With --peft, the same model as a folder that transformers loads, and --python, an interpreter that has the packages
// of peers/requirements.txt, every round also takes a step of PEFT's LoRA and of its methods among these, by
// peers/peft_train.py: as many tokens a step and as many threads, over weights that are not quantized (PEFT's LoHa and
// LoKr take no others) and at the precision that is named.
import { execFileSync } from 'node:child_process'
import { cpus } from 'node:os'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { compared } from '../dist/esm/bench/compared.js'
import { loadModel } from '../dist/esm/index.js'
import { listStrategies } from '../dist/esm/strategies/index.js'
import { cpuSeconds, median, textRows } from './measure.mjs'

const { values: options, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    quantization: { type: 'string', default: 'nf4' },
    precision: { type: 'string', default: 'auto' },
    rank: { type: 'string', default: '16' },
    tokens: { type: 'string', default: '512' },
    rounds: { type: 'string', default: '5' },
    strategies: { type: 'string' },
    peft: { type: 'string' },
    python: { type: 'string' },
    json: { type: 'boolean', default: false },
  },
})
if (positionals.length !== 1) throw new Error('name one model: node benchmarks/strategies.mjs MODEL')
const rank = Number(options.rank)
const tokens = Number(options.tokens)
// benchmarks/private.mjs measures private training.
const names =
  options.strategies?.split(',') ??
  listStrategies()
    .map(({ name }) => name)
    .filter((name) => name !== 'dp-dylora')
const THREADS = Number(process.env.LOWRANK_THREADS ?? cpus().length)
const IN_PEFT = ['dora', 'vera', 'loha', 'lokr']

const model = await loadModel(positionals[0], {
  quantization: options.quantization,
  precision: options.precision,
})
const rows = textRows(2, tokens)

async function stepOf(name) {
  const adapter = await model.attach(await model.probe(compared(name, rank), rows))
  try {
    let step
    let before = cpuSeconds()
    const run = adapter.train(rows, {
      maxSteps: 2,
      maxSeqLength: tokens,
      perDeviceTrainBatchSize: 1,
      gradientCheckpointing: false,
      warmupRatio: 0,
    })
    for await (const { tokensPerSecond, tokens: count } of run) {
      const now = cpuSeconds()
      step = { wall: count / tokensPerSecond, cpu: now - before }
      before = now
    }
    return step
  } finally {
    await adapter.detach()
  }
}

function peftStepOf(strategy) {
  const script = fileURLToPath(new URL('peers/peft_train.py', import.meta.url))
  const size = [
    '--batch',
    '1',
    '--length',
    String(tokens),
    '--rank',
    String(strategy === 'vera' ? 256 : rank),
  ]
  const run = ['--strategy', strategy, '--precision', options.precision === 'bf16' ? 'bf16' : 'fp32']
  const threads = ['--threads', String(THREADS)]
  const parameters = [script, options.peft, '--steps', '2', '--warmup', '1', ...size, ...run, ...threads]
  const lines = execFileSync(options.python ?? 'python3', parameters, {
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'ignore'],
  })
  const last = JSON.parse(lines.trim().split('\n').at(-1))
  return { wall: tokens / last.tokens_per_second, cpu: tokens / last.tokens_per_cpu_second }
}

const clocks = ['wall', 'cpu']
const took = { lora: [], peftLora: [] }
const steps = Object.fromEntries(names.map((name) => [name, []]))
const peftSteps = Object.fromEntries(
  options.python === undefined
    ? []
    : names.filter((name) => IN_PEFT.includes(name)).map((name) => [name, []]),
)
for (let round = 0; round < Number(options.rounds); round++) {
  took.lora.push(await stepOf('lora'))
  for (const name of names) steps[name].push(await stepOf(name))
  const theirs = Object.keys(peftSteps)
  if (theirs.length > 0) took.peftLora.push(peftStepOf('lora'))
  for (const name of theirs) peftSteps[name].push(peftStepOf(name))
}
await model.dispose()
const spread = (all) => ({ ratio: median(all), lowest: Math.min(...all), highest: Math.max(...all) })
const against = (all, lora) =>
  Object.fromEntries(
    clocks.map((clock) => [clock, spread(all.map((step, i) => step[clock] / lora[i][clock]))]),
  )
const result = names.map((strategy) => ({
  strategy,
  ...against(steps[strategy], took.lora),
  ...(peftSteps[strategy] && { peft: against(peftSteps[strategy], took.peftLora) }),
}))
const { lora } = took
const seconds = Object.fromEntries(clocks.map((clock) => [clock, median(lora.map((step) => step[clock]))]))
const setting = {
  precision: options.precision,
  quantization: options.quantization,
  tokens,
  rank,
  rounds: Number(options.rounds),
  threads: THREADS,
  processor: cpus()[0].model,
}
if (options.json) console.log(JSON.stringify({ ...setting, lora_seconds: seconds, strategies: result }))
else {
  console.log(
    `LoRA at rank ${rank}: ${seconds.wall.toFixed(2)} s a step of ${tokens} tokens, ${seconds.cpu.toFixed(2)} s of CPU time`,
  )
  const text = ({ ratio, lowest, highest }) =>
    `${ratio.toFixed(2)} x (${lowest.toFixed(2)} to ${highest.toFixed(2)})`
  for (const { strategy, wall, cpu, peft } of result) {
    console.log(`${strategy.padEnd(12)} ${text(wall)}, CPU time ${text(cpu)}`)
    if (peft) console.log(`${'  in PEFT'.padEnd(12)} ${text(peft.wall)}, CPU time ${text(peft.cpu)}`)
  }
}
