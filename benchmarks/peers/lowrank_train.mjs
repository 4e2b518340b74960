// The work of peft_train.py by lowrank: the same steps over the same tokens from the same adapter.
//
//   node benchmarks/peers/lowrank_train.mjs MODEL [--tokens ids.bin] [--adapter FOLDER] [--quantization nf4]
//     [--precision bf16] [--gradient-checkpointing] [--steps 8] [--warmup 2] [--batch 4]
//     [--length 512] [--layers N]
//
// MODEL is a folder or a .gguf file, of which `--layers` takes the first so many. Tokens are little-endian int32 ids, steps x
// batch x length of them, all supervised; without a file they are made up. Prints a JSON line per step and a last one with
// what peft_train.py's last line has.
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { readSafetensorsHeader, readTensor } from '../../dist/esm/formats/safetensors.js'
import { graphOf, openModelFiles } from '../../dist/esm/models/index.js'
import { addon } from '../../dist/esm/native/addon.js'
import { median } from '../measure.mjs'

const RANK = 16
const ALPHA = 32

const { values: options, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    tokens: { type: 'string' },
    adapter: { type: 'string' },
    quantization: { type: 'string', default: 'none' },
    precision: { type: 'string', default: 'fp32' },
    'gradient-checkpointing': { type: 'boolean', default: false },
    steps: { type: 'string', default: '8' },
    warmup: { type: 'string', default: '2' },
    batch: { type: 'string', default: '4' },
    length: { type: 'string', default: '512' },
    layers: { type: 'string' },
  },
})
const steps = Number(options.steps)
const batch = Number(options.batch)
const length = Number(options.length)
const precision = options.precision === 'bf16' ? 'bf16' : 'f32'
const native = addon()
const before = native.residentBytes().rss
native.resetPeak()

// ---- the model, as loadModel() holds it
const files = await openModelFiles(positionals[0])
const graph = graphOf(
  options.layers ? { ...files.config, num_hidden_layers: Number(options.layers) } : files.config,
)
const model = native.createModel(graph)
const loading = performance.now()
for (const { name, kind } of graph.weights) {
  const source = files.tensors.get(name)
  const plain = precision === 'bf16' || source.dtype === 'BF16' ? 'bf16' : 'f32'
  const quantized = options.quantization === 'nf4' ? 'nf4_double' : plain
  await model.loadWeight(name, source, kind === 'vector' ? 'f32' : kind === 'matrix' ? quantized : plain)
    .promise
}
const loadSeconds = (performance.now() - loading) / 1000
const loadPeak = native.residentBytes().peak

// ---- LoRA on every linear, from a PEFT folder or fresh
const weights = new Map(graph.weights.map((weight) => [weight.name, weight]))
const key = (path, factor) => `base_model.model.${path}.lora_${factor}.weight`
const linears = graph.nodes.filter(({ op }) => op === 'linear')
const spec = {
  parameters: linears.flatMap(({ path, weight }) => [
    { name: key(path, 'A'), rows: RANK, cols: weights.get(weight).cols, trained: true },
    { name: key(path, 'B'), rows: weights.get(weight).rows, cols: RANK, trained: true },
  ]),
  terms: linears.map(({ path }) => ({
    kind: 'low_rank',
    target: path,
    parameters: { a: key(path, 'A'), b: key(path, 'B') },
    numbers: { rank: RANK, scale: ALPHA / RANK },
  })),
}
const adapter = native.createAdapter(spec, { trainable: true })
if (options.adapter) {
  const header = await readSafetensorsHeader(join(options.adapter, 'adapter_model.safetensors'))
  for (const { name } of spec.parameters)
    adapter.write(name, 'value', new Float32Array(Uint8Array.from(await readTensor(header, name)).buffer))
} else {
  for (const { name, cols } of spec.parameters)
    adapter.fill(
      name,
      name.includes('lora_A') ? { kind: 'uniform', bound: cols ** -0.5, seed: 0 } : { kind: 'zeros' },
    )
}

const perStep = batch * length
const session = await native.createSession(model, [adapter], {
  train: {
    mode: 'train',
    tokens: perStep,
    sequences: batch,
    headRows: perStep,
    precision,
    recompute: options['gradient-checkpointing'],
  },
}).promise
const planned = session.total().peakBytes
function readIds(path) {
  const bytes = readFileSync(path)
  return new Int32Array(bytes.buffer, bytes.byteOffset, bytes.byteLength / 4)
}
const ids = options.tokens
  ? readIds(options.tokens)
  : Int32Array.from(
      { length: steps * perStep },
      (_, i) => (Math.imul(i, 2654435761) >>> 0) % files.config.vocab_size,
    )
if (ids.length < steps * perStep)
  throw new Error(`${options.tokens} has ${ids.length} ids, expected ${steps * perStep}`)
const cuSeqlens = Int32Array.from({ length: batch + 1 }, (_, i) => i * length)
native.resetPeak()

const losses = []
const seconds = []
const cpuSeconds = []
for (let step = 1; step <= steps; step++) {
  const tokens = ids.slice((step - 1) * perStep, step * perStep)
  const labels = tokens.map((_, i) => (i % length === length - 1 ? -100 : tokens[i + 1]))
  const begin = performance.now()
  const cpu = process.cpuUsage()
  const input = {
    tokens,
    labels,
    cuSeqlens,
    lossScale: 1 / (batch * (length - 1)),
    seed: 0,
    step,
    microStep: 0,
  }
  const { lossSum, count } = await session.trainStep('train', input).promise
  const { gradNorm } = await adapter.optimizerStep({
    kind: 'adamw',
    beta1: 0.9,
    beta2: 0.999,
    epsilon: 1e-8,
    groups: [{ learningRate: 2e-4, weightDecay: 0 }],
    maxGradNorm: 1,
    step,
  }).promise
  seconds.push((performance.now() - begin) / 1000)
  const used = process.cpuUsage(cpu)
  cpuSeconds.push((used.user + used.system) / 1e6)
  losses.push(lossSum / count)
  const line = { step, loss: losses.at(-1), grad_norm: gradNorm, seconds: seconds.at(-1) }
  console.log(
    JSON.stringify({ ...line, cpu_seconds: cpuSeconds.at(-1), peak_rss_bytes: native.residentBytes().peak }),
  )
}

const warm = Number(options.warmup)
const { isa, threads } = native.cpu()
console.log(
  JSON.stringify({
    mode: {
      quantization: options.quantization,
      precision,
      gradient_checkpointing: options['gradient-checkpointing'],
      threads,
      isa,
    },
    tokens_per_second: perStep / median(seconds.slice(warm)),
    tokens_per_cpu_second: perStep / median(cpuSeconds.slice(warm)),
    peak_rss_bytes: native.residentBytes().peak,
    planned_bytes: planned,
    load_peak: loadPeak,
    before_load_rss_bytes: before,
    load_seconds: loadSeconds,
    losses,
  }),
)
await session.dispose()
await adapter.dispose()
await model.dispose()
