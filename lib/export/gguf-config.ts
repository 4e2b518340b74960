/**
 * Metadata of a GGUF file: hyperparameters and divisors of the rotary frequencies. A model loaded from a GGUF file
 * keeps its metadata byte for byte. Before anything is written, the metadata is parsed as a reader would and must
 * reproduce the model's graph.
 */
import { basename } from 'node:path'
import type { BaseModel } from '../base/base.js'
import { UnsupportedError } from '../core/errors.js'
import { pow } from '../core/portable-math.js'
import { ggufTokenizerOf } from '../data/worker-tokenizer.js'
import { GGML_TYPES_BY_NAME, type GgmlType } from '../formats/ggml-types.js'
import { readGgufHeader } from '../formats/gguf.js'
import { type FieldEntry, fieldEntry, type GgufField, ggufField } from '../formats/gguf-fields.js'
import { type GgufModel, translateGguf } from '../formats/gguf-model.js'
import { ggufName, LONG_FACTORS, partsInGguf, ROPE_FACTORS } from '../formats/gguf-names.js'
import { copiedFields, type GgufInput } from '../formats/gguf-writer.js'
import {
  type Graph,
  type GraphWeight,
  headsOf,
  type NodeOf,
  nodesOf,
  type Rotary,
  shapeOf,
} from '../graph/graph.js'
import { GGUF_FORMS, ggufFormOf, graphOf } from '../models/index.js'
import { ropeOfLayers, ropeParameters } from '../models/rope.js'
import { float32Bytes } from '../peft/floats.js'
import type { ConfigTokens } from '../tokenizer/to-gguf.js'
import { blamed, differences, refuseLacking, refuseWindows, unwritable, windowsOf } from './gguf-faults.js'

/** Metadata and remarks of a GGUF file. */
export interface GgufDescription {
  fields: GgufField[]
  /** Divisors of the rotary frequencies, `[head_dim / 2]`, if the model has any. */
  ropeFactors: Float32Array | undefined
  /** LongRoPE factors, by their config key. */
  longFactors: Map<string, Float32Array>
  /** Differences in how other programs run the file, as sentences. */
  remarks: string[]
}

/** Keys that describe the file rather than the model. */
const OF_THE_FILE =
  /^(general\.(file_type|quantization_version|quantized_by|alignment)|split\..*|quantize\..*|lowrank\..*)$/

/** @throws {UnsupportedError} for a model or a tokenizer that GGUF cannot represent */
export async function describeGguf(base: BaseModel): Promise<GgufDescription> {
  const description = base.files.kind === 'gguf' ? await described(base) : await describe(base)
  requireSameGraph(base, description)
  return description
}

/** The metadata of the GGUF file from which the model was loaded. */
async function described({ files, graph }: BaseModel): Promise<GgufDescription> {
  const fields = await copiedFields(await readGgufHeader(files.path))
  const own = fields.filter(({ key }) => !OF_THE_FILE.test(key))
  const ropeFactors = files.ropeFactors === undefined ? undefined : divisors(files.config, graph)
  return {
    fields: own,
    ropeFactors,
    longFactors: longFactors(files.config, graph),
    remarks: windowRemarks(graph),
  }
}

async function describe(base: BaseModel): Promise<GgufDescription> {
  const { files, graph } = base
  const { architecture: name } = ggufFormOf(graph.family)
  refuseHeads(base)
  refuseUnrotated(base)
  refuseLacking(base)
  const embedding = embeddingOf(graph)
  const tokenizer = await ggufTokenizerOf(
    { kind: files.kind, path: files.path },
    embedding.rows,
    configTokens(files.config),
  )
  const fields = [
    ggufField.string('general.architecture', name),
    ggufField.string('general.type', 'model'),
    ggufField.string('general.name', nameFor(basename(base.name), tokenizer.fields)),
    ...hyperParameters(base),
    ...tokenizer.fields,
  ]
  const { type } = ropeParameters(ropeOfFile(files.config, graph))
  return {
    fields,
    ropeFactors: type === 'llama3' ? divisors(files.config, graph) : undefined,
    longFactors: longFactors(files.config, graph),
    remarks: [...tokenizer.remarks, ...windowRemarks(graph)],
  }
}

/** Tokens that llama.cpp looks up for any model named Phi-3, failing to load it if they are missing. */
const PHI3_TOKENS = ['</s>', '<unk>', '<s>', '<|endoftext|>']

/** The model name, without "Phi-3" if the vocabulary is a different one, as in Phi-4. */
function nameFor(name: string, fields: readonly GgufField[]): string {
  const tokens = fields.find(({ key }) => key === 'tokenizer.ggml.tokens')?.value
  const own = Array.isArray(tokens) && PHI3_TOKENS.every((token) => (tokens as unknown[]).includes(token))
  return own ? name : name.replace(/phi-?3/gi, 'phi')
}

function configTokens({ bos_token_id: bos, pad_token_id: pad }: Record<string, unknown>): ConfigTokens {
  return {
    ...(isTokenId(bos) ? { bosId: bos } : {}),
    ...(isTokenId(pad) ? { padId: pad } : {}),
  }
}

const isTokenId = (value: unknown): value is number => Number.isInteger(value) && (value as number) >= 0

function embeddingOf(graph: Graph) {
  const [node] = nodesOf(graph, 'embedding')
  return graph.weights.find(({ name }) => name === node?.weight) as Graph['weights'][number]
}

function hyperParameters({ files: { config }, graph }: BaseModel): GgufField[] {
  const { u32, f32, string } = fieldEntry
  const { heads, kvHeads, headDim } = headsOf(graph)
  const [norm] = nodesOf(graph, 'rms_norm') as [NodeOf<'rms_norm'>]
  const { rows: vocabulary, cols: hidden } = embeddingOf(graph)
  const { architecture, written = {} } = ggufFormOf(graph.family)
  const { windowPeriod, alwaysWindow } = written
  const { theta, type, scaling } = ropeParameters(ropeOfFile(config, graph))
  const positions = config.max_position_embeddings
  if (typeof positions !== 'number')
    throw new UnsupportedError('config.json has no max_position_embeddings, which a GGUF file requires.')
  const windows = windowsOf(graph)
  const window = windowPeriod === undefined ? windows[0] : windows.find((size) => size !== undefined)
  const common: FieldEntry[] = [
    u32('vocab_size', vocabulary),
    u32('context_length', positions),
    u32('embedding_length', hidden),
    u32('block_count', graph.layers),
    u32('feed_forward_length', feedForwardLength(graph)),
    u32('attention.head_count', heads),
    u32('attention.head_count_kv', kvHeads),
    u32('attention.key_length', headDim),
    u32('attention.value_length', headDim),
  ]
  const { rms_norm_eps: eps } = config
  common.push(f32('attention.layer_norm_rms_epsilon', typeof eps === 'number' ? eps : norm.eps))
  for (const [key, value] of written.numbers?.(config) ?? [])
    if (typeof value === 'number') common.push(f32(key, value))
  if (window !== undefined || alwaysWindow) common.push(u32('attention.sliding_window', window ?? 0))
  // If every layer has a window, use a period longer than the model, so that no layer ends one.
  const period = windows.indexOf(undefined) + 1 || graph.layers + 1
  if (window !== undefined && windowPeriod !== undefined)
    common.push(u32('attention.sliding_window_pattern', period))
  const [rope] = graph.ropes as [Rotary]
  common.push(u32('rope.dimension_count', 2 * rope.invFreq.length), f32('rope.freq_base', theta))
  if (rope.long !== undefined) {
    common.push(u32('rope.scaling.original_context_length', rope.long.above))
    common.push(f32('rope.scaling.attn_factor', rope.attentionFactor))
  }
  if (type === 'linear' || type === 'yarn') {
    common.push(string('rope.scaling.type', type), f32('rope.scaling.factor', scaling.factor as number))
    const original =
      config.original_max_position_embeddings ?? scaling.original_max_position_embeddings ?? positions
    if (type === 'yarn') common.push(u32('rope.scaling.original_context_length', original as number))
    for (const name of ['beta_fast', 'beta_slow'] as const)
      if (typeof scaling[name] === 'number') common.push(f32(`rope.scaling.yarn_${name}`, scaling[name]))
  }
  const own = written.fields?.(graph, config) ?? {}
  const entries = common.flatMap((entry) => own[entry[0]]?.(entry) ?? [entry])
  return entries.map(([key, write]) => write(`${architecture}.${key}`))
}

/** Columns of the last linear layer of an MLP. */
function feedForwardLength({ weights, family }: Graph): number {
  const { names } = ggufFormOf(family)
  const down = weights.find(({ name, rows }) =>
    partsInGguf(name, rows, names).some((part) => ggufName(part.name, names)?.endsWith('.ffn_down.weight')),
  )
  return down?.cols ?? 0
}

/** @throws {UnsupportedError} when llama.cpp would misinterpret the attention heads */
function refuseHeads({ graph, name }: BaseModel): void {
  if (nodesOf(graph, 'attention').length === 0)
    throw new UnsupportedError(
      `${name} has no layer with attention, which GGUF files need. Write a safetensors folder instead.`,
      { model: name },
    )
  const { heads, headDim } = headsOf(graph)
  const hidden = embeddingOf(graph).cols
  if (!ggufFormOf(graph.family).written?.plainHeads || heads * headDim === hidden) return
  throw new UnsupportedError(
    `${name} cannot be written as a GGUF file: head_dim is ${headDim}, expected hidden_size / num_attention_heads, ${hidden} / ${heads}, as programs assume for its architecture. Write a safetensors folder instead.`,
    { heads, headDim, hidden },
  )
}

/** @throws {UnsupportedError} without any rotary embedding, which readers of GGUF files would add */
function refuseUnrotated({ graph, name }: BaseModel): void {
  if (nodesOf(graph, 'rope').length > 0) return
  throw new UnsupportedError(
    `${name} has no rotary embedding, and lowrank does not write GGUF files of such models. Write a safetensors folder instead.`,
    { model: name },
  )
}

/** LongRoPE divisors, by their config key. */
function longFactors(config: Record<string, unknown>, graph: Graph): GgufDescription['longFactors'] {
  const { scaling } = ropeParameters(ropeOfFile(config, graph))
  const lists = Object.keys(LONG_FACTORS).flatMap((key): [string, Float32Array][] =>
    Array.isArray(scaling[key]) ? [[key, Float32Array.from(scaling[key] as number[])]] : [],
  )
  return new Map(lists)
}

/** Divisors of the unscaled frequencies. */
function divisors(config: Record<string, unknown>, graph: Graph): Float32Array {
  const { theta } = ropeParameters(ropeOfFile(config, graph))
  const [{ invFreq }] = graph.ropes as [Rotary]
  return Float32Array.from(invFreq, (frequency, i) => pow(theta, -i / invFreq.length) / frequency)
}

/** The rotary config that the file's keys describe: that of layers without a sliding window. */
function ropeOfFile(config: Record<string, unknown>, { ropes, family }: Graph): Record<string, unknown> {
  const byLayer = ropes.length > 1 && ggufFormOf(family).written?.windowPeriod !== undefined
  return byLayer ? ropeOfLayers(config, 'full_attention') : config
}

function windowRemarks(graph: Graph): string[] {
  const [window] = windowsOf(graph)
  if (window === undefined || ggufFormOf(graph.family).written?.windowPeriod !== undefined) return []
  return [
    `llama.cpp ignores the sliding window of this model: its answers differ for texts longer than ${window} tokens`,
  ]
}

/** The divisors as tensors in the file. */
export function ropeTensors({ ropeFactors, longFactors }: GgufDescription): GgufInput[] {
  return namedFactors(ropeFactors, longFactors).map(([name, factors]) => ({
    name,
    shape: [factors.length],
    type: 'F32',
    data: float32Bytes(factors),
  }))
}

function namedFactors(
  ropeFactors: Float32Array | undefined,
  longFactors: ReadonlyMap<string, Float32Array>,
): [name: string, factors: Float32Array][] {
  const long = [...longFactors].map(([key, factors]): [string, Float32Array] => [
    LONG_FACTORS[key as keyof typeof LONG_FACTORS],
    factors,
  ])
  return ropeFactors ? [[ROPE_FACTORS, ropeFactors], ...long] : long
}

/**
 * Parses the generated metadata and requires it to reproduce the model, which catches config settings the file cannot
 * hold.
 */
function requireSameGraph(base: BaseModel, description: GgufDescription): void {
  const { files, graph, name } = base
  const { fields, ropeFactors, longFactors } = description
  const { names } = ggufFormOf(graph.family)
  const type = GGML_TYPES_BY_NAME.get('F32') as GgmlType
  const place = { type, offset: 0, bytes: 0 }
  const tensors = graph.weights.flatMap((weight) =>
    partsInGguf(weight.name, weight.rows, names).map(({ name, rows }) => {
      const dims = shapeInGguf({ ...weight, rows }).reverse()
      return { name: nameInGguf(name, graph.family), dims, ...place }
    }),
  )
  for (const [name, { length }] of namedFactors(ropeFactors, longFactors))
    tensors.push({ name, dims: [length], ...place })
  const metadata = new Map(fields.map(({ key, value }) => [key, value]))
  const { config } = readAgain(base, { path: `${name} as a GGUF file`, metadata, tensors })
  for (const [key, factors] of longFactors)
    Object.assign(config.rope_scaling as object, { [key]: Array.from(factors) })
  const again = graphOf(config, ropeFactors)
  const unfused = ggufFormOf(graph.family).written?.unfused?.(files.config)
  const expected = unfused === undefined ? graph : graphOf(unfused)
  const positions = files.config.max_position_embeddings as number
  const problems = differences(expected, again, positions)
  if (problems.length === 0) return
  const settings = blamed(
    unfused ?? files.config,
    config,
    (changed) => differences(changed, again, positions).length,
  )
  throw unwritable(name, settings.length > 0 ? settings : [...new Set(problems)])
}

/** The model as a reader of the file would see it. */
function readAgain(base: BaseModel, header: Parameters<typeof translateGguf>[0]): GgufModel {
  try {
    return translateGguf(header, GGUF_FORMS)
  } catch (error) {
    refuseWindows(base)
    throw error
  }
}

/** Shape in files, which have no dimension for the one input channel of a convolution's filters. */
export function shapeInGguf(weight: Omit<GraphWeight, 'name'>): number[] {
  return shapeOf(weight).filter((_, at, { length }) => length < 3 || at !== 1)
}

/** @throws {UnsupportedError} for a weight that has no name in GGUF */
export function nameInGguf(name: string, family: string): string {
  const found = ggufName(name, ggufFormOf(family).names)
  if (found !== undefined) return found
  throw new UnsupportedError(
    `the weight ${name} has no name in GGUF files; write a safetensors folder instead.`,
    { weight: name },
  )
}
