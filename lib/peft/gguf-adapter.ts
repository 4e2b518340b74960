/**
 * LoRA adapters as GGUF files for llama.cpp: A and B of every adapted weight under the weight's name, and one alpha for
 * all; the output is scaled by alpha over each rank. Files from lowrank and from other programs load like an adapter
 * folder.
 */
import { isDeepStrictEqual } from 'node:util'
import { FileFormatError, ShapeError, UnsupportedError } from '../core/errors.js'
import { quote } from '../core/quote.js'
import { type GgufHeader, type GgufTensor, readGgufHeader } from '../formats/gguf.js'
import type { GgufForm, StoredForm, StoredSizes } from '../formats/gguf-form.js'
import { GgufKeys } from '../formats/gguf-metadata.js'
import { huggingFaceName, partsInGguf } from '../formats/gguf-names.js'
import { modelPlaces } from '../formats/head-order.js'
import { formatFromGguf, GGUF_PROMPT_FORMAT } from '../formats/prompt-format.js'
import { deltaRuleOf, type Graph, headsOf } from '../graph/graph.js'
import { readInto, withInputFile } from '../io/input.js'
import { loraOf } from '../strategies/convert.js'
import { describeAdapter } from '../strategies/describe.js'
import { HEAD } from '../strategies/index.js'
import type { LinearSite } from '../strategies/strategy.js'
import type { AdapterFolder } from './adapter-folder.js'
import { toFloat32 } from './floats.js'

/** A and B of one weight in the file. */
interface Pair {
  a: GgufTensor
  b: GgufTensor
}

/**
 * Opens an adapter file for a model.
 * @param form how models of its family are stored
 * @throws {FileFormatError} when the file is malformed or half of a pair is missing
 * @throws {ShapeError} when a tensor does not fit the model
 * @throws {UnsupportedError} for another type of adapter, an adapter for another architecture, or one of weights that
 * cannot be adapted
 */
export async function openGgufAdapter(
  path: string,
  graph: Graph,
  sites: readonly LinearSite[],
  form: GgufForm,
): Promise<AdapterFolder> {
  const header = await readGgufHeader(path)
  const alpha = readAlpha(header, form)
  const pairs = pairsOf(header, graph, sites, form)
  const storedOf = (target: string) => storedForm(form, graph, target)
  const ranks = new Map([...pairs].map(([target, [part]]) => [target, part?.b.dims[0] ?? 1]))
  // An alpha of 0 means a scale of 1.
  const scaled = [...ranks].map(([target, rank]) => ({ target, rank, scale: alpha === 0 ? 1 : alpha / rank }))
  const strategy = loraOf(
    scaled,
    sites.map((site) => site.path),
  )
  const description = describeAdapter(strategy, sites)
  return {
    path,
    description,
    baseModel: null,
    baseFingerprint: null,
    privacy: [],
    remarks: [],
    format: formatFromGguf(header.metadata.get(GGUF_PROMPT_FORMAT), path),
    async *parameters() {
      for (const [target, parts] of pairs) {
        const a = await commonA(path, target, parts)
        yield {
          name: `${target}.lora_A.weight`,
          values: modelColumns(a, ranks.get(target) ?? 1, storedOf(target)),
        }
        const rows = joined(await Promise.all(parts.map(({ b }) => readFloats(path, b))))
        yield {
          name: `${target}.lora_B.weight`,
          values: unpermuted(rows, ranks.get(target) ?? 1, storedOf(target)),
        }
      }
    },
  }
}

function readAlpha({ path, metadata }: GgufHeader, { architecture: name }: GgufForm): number {
  const keys = new GgufKeys(path, metadata)
  const kind = [keys.text('general.type'), keys.text('adapter.type')]
  if (kind[0] !== 'adapter' || kind[1] !== 'lora')
    throw new UnsupportedError(
      `${path} holds ${kind[0] === 'adapter' ? `an adapter of the type ${quote(kind[1] ?? 'none')}` : 'no adapter'}; expected a GGUF file with a LoRA adapter.`,
      { path, type: kind[0] ?? null, adapterType: kind[1] ?? null },
    )
  const architecture = keys.text('general.architecture')
  if (architecture !== name)
    throw new UnsupportedError(
      `${path} is an adapter of the architecture ${quote(architecture ?? 'none')}, but the model is ${quote(name)}.`,
      { path, architecture: architecture ?? null, expected: name },
    )
  const alpha = keys.required('adapter.lora.alpha', keys.number('adapter.lora.alpha'))
  if (alpha >= 0) return alpha
  throw new FileFormatError(`${path}: adapter.lora.alpha is ${alpha}, expected 0 or more.`, { path, alpha })
}

/** The pairs of each linear layer: one for each tensor that its weight has in GGUF files. */
function pairsOf(
  { path, tensors }: GgufHeader,
  graph: Graph,
  sites: readonly LinearSite[],
  { names }: GgufForm,
): Map<string, Pair[]> {
  const places = sites
    .filter(({ embedding }) => !embedding)
    .map((site) => ({ site, parts: partsInGguf(`${site.path}.weight`, site.out, names) }))
  const known = new Set(places.flatMap(({ parts }) => parts.map(({ name }) => name)))
  const found = new Map<string, Partial<Pair>>()
  for (const tensor of tensors) {
    const [, weight = '', half] = /^(.+)\.lora_([ab])$/.exec(tensor.name) ?? []
    const name = huggingFaceName(weight, graph.layers, names)
    if (name === undefined || !known.has(name))
      throw new UnsupportedError(
        name === `${HEAD}.weight`
          ? `${path} adapts the head (${quote(tensor.name)}), but adapters of the head are not supported; train it again without ${HEAD}, or merge it into its model with llama.cpp.`
          : `${path} has the tensor ${quote(tensor.name)}; only adapters of the blocks' linears are supported.`,
        { path, tensor: tensor.name },
      )
    found.set(name, { ...found.get(name), [half as 'a' | 'b']: tensor })
  }
  if (found.size === 0) throw new FileFormatError(`${path} has no tensors.`, { path })
  const adapted = places.filter(({ parts }) => parts.some(({ name }) => found.has(name)))
  return new Map(
    adapted.map(({ site, parts }) => [
      site.path,
      parts.map(({ name, rows }) =>
        checkedPair(path, found.get(name) ?? {}, { target: site.path, in: site.in, out: rows }),
      ),
    ]),
  )
}

function checkedPair(
  path: string,
  { a, b }: Partial<Pair>,
  site: { target: string; in: number; out: number },
): Pair {
  const { target } = site
  if (a === undefined || b === undefined)
    throw new FileFormatError(`${path} has only one half of the adapter of ${target}.`, { path, target })
  // Writers may omit a trailing dimension of 1.
  const [rank = 1, out = 1] = b.dims
  if (a.dims[0] !== site.in || (a.dims[1] ?? 1) !== rank || out !== site.out)
    throw new ShapeError(
      `${path}: the adapter of ${target} is [${a.dims.join(', ')}] and [${b.dims.join(', ')}], but the model needs [${site.in}, rank] and [rank, ${site.out}].`,
      { path, target },
    )
  return { a, b }
}

/** @throws {UnsupportedError} when the parts of a fused layer have different A */
async function commonA(path: string, target: string, parts: readonly Pair[]): Promise<Float32Array> {
  const [first, ...others] = await Promise.all(parts.map(({ a }) => readFloats(path, a)))
  if (others.every((other) => isDeepStrictEqual(other, first))) return first as Float32Array
  throw new UnsupportedError(
    `${path} has a different A for each half of ${target}, which is one layer of the model with one A; use the adapter with the model's GGUF file.`,
    { path, target },
  )
}

function joined(parts: readonly Float32Array[]): Float32Array {
  const [first] = parts
  if (first !== undefined && parts.length === 1) return first
  const whole = new Float32Array(parts.reduce((total, { length }) => total + length, 0))
  let at = 0
  for (const part of parts) {
    whole.set(part, at)
    at += part.length
  }
  return whole
}

async function readFloats(path: string, { name, type, offset, bytes }: GgufTensor): Promise<Float32Array> {
  const data = new Uint8Array(bytes)
  await withInputFile(path, (file) => readInto(file, data, offset))
  return toFloat32(type.name, data, `${path}: ${name}`)
}

function unpermuted(rows: Float32Array, rank: number, stored: StoredForm): Float32Array {
  const order = rowOrder(stored, rows.length / rank)
  if (order === undefined) return rows
  const out = new Float32Array(rows.length)
  order.forEach((from, to) => {
    out.set(rows.subarray(to * rank, (to + 1) * rank), from * rank)
  })
  return out
}

/** Rows of A with the columns in the order of the model. */
function modelColumns(a: Float32Array, rank: number, stored: StoredForm): Float32Array {
  const order = columnOrder(stored, a.length / rank)
  if (order === undefined) return a
  const out = new Float32Array(a.length)
  for (let row = 0; row < a.length; row += order.length)
    order.forEach((from, to) => {
      out[row + from] = a[row + to] as number
    })
  return out
}

/** How the weight of a linear layer is stored in GGUF files. */
export function storedForm({ stored }: GgufForm, graph: Graph, target: string): StoredForm {
  return stored?.(`${target}.weight`, storedSizes(graph)) ?? {}
}

export function storedSizes(graph: Graph): StoredSizes {
  const rule = deltaRuleOf(graph)
  return { ...headsOf(graph), ...(rule && { rule }) }
}

/** For each column in a GGUF file, the corresponding column of a linear layer; undefined if the order is the same. */
export function columnOrder({ headOrder }: StoredForm, columns: number): Uint32Array | undefined {
  return headOrder?.columns ? modelPlaces(headOrder, columns) : undefined
}

/**
 * For each row in a GGUF file, the corresponding row of a linear layer: GGUF stores the two rotary dimensions of a pair
 * next to each other within each head, and value heads in another order. Undefined if the order is the same.
 */
export function rowOrder({ headOrder, permutedHeads }: StoredForm, rows: number): Uint32Array | undefined {
  if (headOrder !== undefined && !headOrder.columns) return modelPlaces(headOrder, rows)
  if (permutedHeads === undefined) return undefined
  const size = rows / permutedHeads
  return Uint32Array.from({ length: rows }, (_, row) => {
    const at = row % size
    return row - at + (at % 2) * (size / 2) + Math.floor(at / 2)
  })
}
