// Training speed of this machine, for `lowrank plan --machine NAME` on others: machines/NAME.json.
//
//   npm run build && node benchmarks/machine.mjs NAME [--threads N] [--seconds 3]
//
// Rates are those of steps of LoRA over every format and precision, for two models, and of the other strategies over
// one, each measured for so many seconds as `plan` measures for itself. A step counts with the less of its time by the
// clock and its CPU time over the threads; on a machine that others use, more seconds help.
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { cpus, tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { SHAPES } from '../dist/esm/bench/shapes.js'
import { addon } from '../dist/esm/native/addon.js'
import { listStrategies, strategyFrom } from '../dist/esm/strategies/index.js'
import { MEASURED_FORMATS } from '../dist/esm/time/machines.js'
import { measuredRates } from '../dist/esm/time/measure.js'
import { layOut } from '../dist/esm/time/setting.js'

const { positionals, values } = parseArgs({
  allowPositionals: true,
  options: { threads: { type: 'string' }, seconds: { type: 'string', default: '3' } },
})
const [name] = positionals
if (!/^[a-z0-9][a-z0-9.-]*$/.test(name ?? ''))
  throw new Error('name the machine: node benchmarks/machine.mjs NAME')

const MODELS = ['SmolLM2-135M', 'Llama-3.2-1B'].map((name) => SHAPES.get(name))
const LENGTH = 512
// They wrap others, train privately, or are LoRA in all that takes time.
const LEFT_OUT = ['lora', 'lora-plus', 'qlora', 'dp-dylora', 'lora-drop']
const SHAPE = {
  ...{ perDeviceTrainBatchSize: 1, packing: false, gradientCheckpointing: true, keepAttention: false },
  ...{ logitsMemory: '48MiB', optimizer: 'adamw', optimizerInBackward: false },
}
const { isa: level, prefersBf16, threads: all } = addon().cpu()
const threads = Number(values.threads ?? all)

const folder = mkdtempSync(join(tmpdir(), 'lowrank-machine-'))
// Nothing that was measured before counts.
process.env.HF_HOME = folder

async function ratesOf(config, format, precision, strategy) {
  const setting = {
    ...{ config, precision, strategy: strategyFrom({ name: strategy }) },
    options: { ...SHAPE, maxSeqLength: LENGTH },
    formatOf: (weight) =>
      weight.endsWith('_proj.weight') ? format : /norm|bias/.test(weight) ? 'f32' : 'bf16',
  }
  const laidOut = layOut(setting)
  // On a busy machine a larger model may seem no slower; more time tells.
  for (let seconds = Number(values.seconds), tries = 0; tries < 5; tries++, seconds *= 2) {
    const rates = await measuredRates(setting, laidOut, threads, { seconds })
    if (rates !== undefined) return rates
  }
  throw new Error('the setting could not be measured')
}

const significant = (value) => Number(value.toPrecision(4))
const settings = []
const strategies = {}
const precisions = ['f32', 'bf16']
const others = listStrategies().flatMap(({ name }) => (LEFT_OUT.includes(name) ? [] : [name]))
const total = MODELS.length * MEASURED_FORMATS.length * precisions.length + others.length
const begin = performance.now()
let done = 0
const tell = (what) => {
  const seconds = (performance.now() - begin) / 1000
  const left = done === 0 ? '' : `, about ${Math.ceil(((seconds / done) * (total - done)) / 60)} min left`
  console.error(`${++done} of ${total}: ${what}${left}`)
}
try {
  for (const config of MODELS)
    for (const format of MEASURED_FORMATS)
      for (const precision of precisions) {
        tell(`${config.hidden_size} wide, ${format}, ${precision}`)
        const rates = await ratesOf(config, format, precision, 'lora')
        settings.push({
          ...{ format, precision, hidden_size: config.hidden_size, length: LENGTH },
          ...{ blocks: significant(rates.blocks), head: significant(rates.head) },
          token_seconds: significant(rates.tokenSeconds),
          update_seconds: significant(rates.updateSeconds),
        })
      }
  const precision = prefersBf16 ? 'bf16' : 'f32'
  const lora = settings.find((one) => one.format === 'nf4_double' && one.precision === precision)
  for (const other of others) {
    tell(other)
    const { blocks } = await ratesOf(MODELS[0], 'nf4_double', precision, other)
    strategies[other] = significant(lora.blocks / blocks)
  }
} finally {
  rmSync(folder, { recursive: true, force: true })
}
const file = fileURLToPath(new URL(`../machines/${name}.json`, import.meta.url))
const cpu = cpus()[0]?.model.trim() ?? ''
const figures = { version: 1, cpu, level, threads, prefers_bf16: prefersBf16, settings, strategies }
writeFileSync(file, `${JSON.stringify(figures, null, 2)}\n`)
console.log(file)
