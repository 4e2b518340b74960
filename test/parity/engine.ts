/** Code shared by the parity tests: golden tensors, tiny models in native memory, relative errors. */
import { join, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import { readSafetensorsHeader, readTensor } from '../../lib/formats/safetensors.js'
import type { Graph } from '../../lib/graph/graph.js'
import type { Adapter } from '../../lib/model/adapter.js'
import { graphOf, openModelFiles } from '../../lib/models/index.js'
import {
  type AdapterSpec,
  addon,
  type MicroBatch,
  type NativeModel,
  type NativeSession,
  type StorageFormat,
  type TrainInput,
} from '../../lib/native/addon.js'
import type { StartingBase } from '../../lib/strategies/describe.js'
import { nf4, type Quantization } from '../../lib/weights/quantization.js'

export const parity = fileURLToPath(new URL('.', import.meta.url))

export type Tensors = Map<string, Float32Array | Float64Array | Int32Array | Uint8Array>

/** Every tensor of a golden file, in its own type. @param file from this folder, if not absolute */
export async function readGolden(file: string): Promise<Tensors> {
  const header = await readSafetensorsHeader(resolve(parity, file))
  const tensors: Tensors = new Map()
  for (const [name, info] of header.tensors) {
    const bytes = Uint8Array.from(await readTensor(header, name)).buffer
    if (info.dtype === 'F32') tensors.set(name, new Float32Array(bytes))
    else if (info.dtype === 'F64') tensors.set(name, new Float64Array(bytes))
    else if (info.dtype === 'I32') tensors.set(name, new Int32Array(bytes))
    else tensors.set(name, new Uint8Array(bytes))
  }
  return tensors
}

export function floats(tensors: Tensors, name: string): Float32Array {
  const value = tensors.get(name)
  if (!(value instanceof Float32Array)) throw new Error(`golden tensor ${name} is missing or not F32`)
  return value
}

export function ints(tensors: Tensors, name: string): Int32Array {
  const value = tensors.get(name)
  if (!(value instanceof Int32Array)) throw new Error(`golden tensor ${name} is missing or not I32`)
  return value
}

export function scalar(tensors: Tensors, name: string): number {
  const value = tensors.get(name)?.[0]
  if (typeof value !== 'number') throw new Error(`golden scalar ${name} is missing`)
  return value
}

/** ‖a − b‖₂ / ‖b‖₂ */
export function relativeError(a: ArrayLike<number>, b: ArrayLike<number>): number {
  if (a.length !== b.length) throw new Error(`lengths differ: ${a.length} and ${b.length}`)
  let difference = 0
  let norm = 0
  for (let i = 0; i < b.length; i++) {
    const y = b[i] as number
    difference += ((a[i] as number) - y) ** 2
    norm += y * y
  }
  return Math.sqrt(difference / norm)
}

export interface Loaded {
  graph: Graph
  model: NativeModel
  base: StartingBase
}

/**
 * A model of test/parity/models in native memory; its decoder linears as `linears` says, embedding and head as `tables`
 * does, the rest exactly as stored.
 */
export function loadTiny(name: string, linears?: StorageFormat, tables?: StorageFormat): Promise<Loaded> {
  return loadFrom(join(parity, 'models', name), linears, tables)
}

/** The same for any folder or GGUF file. */
export async function loadFrom(
  path: string,
  linears: StorageFormat = 'f32',
  tables: StorageFormat = 'f32',
): Promise<Loaded> {
  const files = await openModelFiles(path)
  const graph = graphOf(files.config)
  const model = addon().createModel(graph)
  for (const weight of graph.weights) {
    const source = files.tensors.get(weight.name)
    if (source === undefined) throw new Error(`${path} lacks ${weight.name}`)
    const decoder = weight.name.startsWith('model.layers.')
    const format = weight.kind === 'vector' ? 'f32' : decoder ? linears : tables
    await model.loadWeight(weight.name, source, format).promise
  }
  const quantization: Quantization =
    linears === 'nf4' ? nf4({ doubleQuant: false }) : linears === 'nf4_double' ? nf4() : { type: 'none' }
  return { graph, model, base: { native: model, graph, files, quantization } }
}

/** The packed batch of a golden file. */
export function goldenBatch(tensors: Tensors, prefix = ''): MicroBatch {
  return {
    tokens: ints(tensors, `${prefix}input_ids`),
    cuSeqlens: ints(tensors, `${prefix}cu_seqlens`),
    labels: ints(tensors, `${prefix}targets`),
  }
}

/** One low-rank term per entry, named as PEFT names its tensors. */
export function loraSpec(
  entries: { path: string; rank: number; scale: number; inputs: number; outputs: number }[],
  dropout = 0,
): AdapterSpec {
  const key = (path: string, factor: string) => `base_model.model.${path}.lora_${factor}.weight`
  return {
    parameters: entries.flatMap(({ path, rank, inputs, outputs }) => [
      { name: key(path, 'A'), rows: rank, cols: inputs, trained: true },
      { name: key(path, 'B'), rows: outputs, cols: rank, trained: true },
    ]),
    terms: entries.map(({ path, rank, scale }) => ({
      kind: 'low_rank',
      target: path,
      parameters: { a: key(path, 'A'), b: key(path, 'B') },
      numbers: { rank, scale, dropout },
    })),
  }
}

/** Name of a factor's tensor in PEFT's files. */
export function tensorOf({ state }: Adapter, factor: string): string {
  const tensor = state.description.factors.find(({ name }) => name === factor)?.tensor
  return typeof tensor === 'object' && tensor !== null && 'name' in tensor ? String(tensor.name) : factor
}

/** The plan that holds every golden batch. */
export const trainPlan = {
  mode: 'train',
  tokens: 256,
  sequences: 8,
  headRows: 256,
  precision: 'f32',
} as const

/** The gradients of one batch's mean loss, added to the adapter's; returns that loss. */
export async function backward(
  session: NativeSession,
  batch: MicroBatch,
  more: Partial<TrainInput> = {},
): Promise<number> {
  const labeled = labels(batch)
  const input = { ...batch, lossScale: 1 / labeled, seed: 0, step: 1, microStep: 0, ...more }
  const { lossSum, count } = await session.trainStep('train', input).promise
  if (count !== labeled) throw new Error(`${count} rows were counted of ${labeled}`)
  return lossSum / labeled
}

function labels(batch: MicroBatch): number {
  return batch.labels.filter((label) => label !== -100).length
}
