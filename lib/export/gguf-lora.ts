/**
 * An adapter alone as a GGUF file, for llama.cpp to apply to its base. The format has A and B of each weight and one alpha
 * for all: what else scales an adapter is multiplied into its A and B.
 */
import { basename } from 'node:path'
import type { ActiveAdapter, BaseModel } from '../base.js'
import { ConfigError, UnsupportedError } from '../errors.js'
import { ggufField } from '../files/gguf-fields.js'
import { ggufArchitecture } from '../files/gguf-model.js'
import { type GgufInput, writeGguf } from '../files/gguf-writer.js'
import type { TensorControl } from '../files/tensor-data.js'
import type { LowRankSlot, NativeAdapter } from '../native/addon.js'
import { floatBytes } from '../peft/floats.js'
import { rowOrder } from '../peft/gguf-adapter.js'
import type { Subject } from './drift.js'
import { nameInGguf } from './gguf-config.js'
import type { MODEL_DTYPES } from './options.js'

const TYPES = { f32: 'F32', f16: 'F16', bf16: 'BF16' } as const

/**
 * Writes the adapter.
 * @throws {ConfigError} when there is not exactly one
 * @throws {UnsupportedError} for an adapter that is no sum of low-rank products at linears
 */
export async function writeGgufLora(
  path: string,
  { base, adapters }: Subject,
  dtype: (typeof MODEL_DTYPES)[number],
  control: TensorControl = {},
): Promise<void> {
  const { state, weight } = theOnly(adapters)
  const { strategy, spec } = state.description
  const [first] = spec.slots
  if (first === undefined || (spec.copies ?? []).length > 0)
    throw new UnsupportedError(
      `${strategy.name} trains the weights of the model themselves, so there is no adapter to write; export the whole model as gguf.`,
      { strategy: strategy.name },
    )
  const alpha = first.scale * first.rank
  const { name } = ggufArchitecture(base.graph.family)
  const fields = [
    ggufField.string('general.architecture', name),
    ggufField.string('general.type', 'adapter'),
    ggufField.string('general.name', basename(path, '.gguf')),
    ggufField.string('adapter.type', 'lora'),
    ggufField.f32('adapter.lora.alpha', alpha),
  ]
  const type = TYPES[dtype]
  const tensors = spec.slots.flatMap((slot): GgufInput[] => {
    const { name, rows, cols } = adaptedWeight(base, slot)
    const inGguf = nameInGguf(name)
    const factor = (weight * slot.scale * slot.rank) / alpha
    const a = () => floatBytes(type, factorA(state.native, slot, cols))
    const b = () => floatBytes(type, factorB(base, state.native, slot, rows, factor))
    return [
      { name: `${inGguf}.lora_a`, shape: [slot.rank, cols], type, data: a },
      { name: `${inGguf}.lora_b`, shape: [rows, slot.rank], type, data: b },
    ]
  })
  await writeGguf(path, fields, tensors, control)
}

function theOnly(adapters: readonly ActiveAdapter[]): ActiveAdapter {
  const [only, other] = adapters
  if (only !== undefined && other === undefined) return only
  throw new ConfigError(
    `${adapters.length === 0 ? 'no adapter acts' : `${adapters.length} adapters act`} on the model, and a file of the format gguf-lora holds one; name it with adapters, or export the merged model as gguf.`,
    { adapters: adapters.length },
  )
}

function adaptedWeight({ graph }: BaseModel, { target }: LowRankSlot) {
  const weight = graph.weights.find(({ name }) => name === `${target}.weight`)
  if (weight !== undefined) return weight
  // llama.cpp would apply it to the embedding too, in the wrong shape.
  throw new UnsupportedError(
    `the adapter changes ${target}, which shares its weight with the embedding, and the format gguf-lora cannot say that; export the merged model as gguf.`,
    { target },
  )
}

/** A `[rank, cols]` with the gains of its rows; of a shared A that is wider, its first columns. */
function factorA(adapter: NativeAdapter, { a, d, mask, rank }: LowRankSlot, cols: number): Float32Array {
  const stored = adapter.read(a, 'value')
  const width = stored.length / rank
  const values = new Float32Array(rank * cols)
  for (let i = 0; i < rank; i++) values.set(stored.subarray(i * width, i * width + cols), i * cols)
  for (const gains of [d, mask])
    if (gains !== undefined) scaleRows(values, adapter.read(gains, 'value').subarray(0, rank), cols)
  return values
}

/** B `[rows, rank]` with the gains of its rows, times a factor, in the order of the file; of a taller one its first rows. */
function factorB(
  { graph }: BaseModel,
  adapter: NativeAdapter,
  { target, b, bGain, rank }: LowRankSlot,
  rows: number,
  factor: number,
): Float32Array {
  const values = adapter.read(b, 'value').subarray(0, rows * rank)
  if (bGain !== undefined) scaleRows(values, adapter.read(bGain, 'value'), rank)
  if (factor !== 1) scaleRows(values, new Float32Array(rows).fill(factor), rank)
  const order = rowOrder(target, rows, graph)
  if (order === undefined) return values
  const out = new Float32Array(values.length)
  order.forEach((from, to) => {
    out.set(values.subarray(from * rank, (from + 1) * rank), to * rank)
  })
  return out
}

function scaleRows(values: Float32Array, gains: Float32Array, cols: number): void {
  for (let i = 0; i < values.length; i++)
    values[i] = (values[i] as number) * (gains[Math.floor(i / cols)] as number)
}
