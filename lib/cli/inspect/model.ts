/** Contents of a model folder or GGUF file, from its headers: shape, tensors, tokenizer, and memory by format. */

import { formatBytes } from '../../core/bytes.js'
import { LowrankError, UnsupportedError } from '../../core/errors.js'
import { WorkerTokenizer } from '../../data/worker-tokenizer.js'
import type { ModelFiles } from '../../formats/model-files.js'
import { dtypesIn, isBlockDtype } from '../../formats/tensor-source.js'
import type { Graph } from '../../graph/graph.js'
import { graphOf, openModelFiles } from '../../models/index.js'
import { addon } from '../../native/addon.js'
import { translated } from '../../native/errors.js'
import { specialTokensOf } from '../../tokenizer/tokenizer.js'
import { resolvePrecision } from '../../weights/choice.js'
import { describeBoth, int8, nf4, QUANTIZATIONS, type Quantization } from '../../weights/quantization.js'
import { matrixDtypes, storageFormats, storedQuantization, weightFaults } from '../../weights/weights.js'
import { facts, formatCount } from '../format.js'
import type { Printed } from '../schemas.js'
import type { Inspection } from './inspection.js'

type ModelFacts = Omit<
  Extract<Printed<'inspect'>, { kind: 'model' }>,
  'kind' | 'path' | 'format' | 'fingerprint'
>

export async function inspectModel(path: string): Promise<Inspection> {
  const files = await openModelFiles(path)
  const model = await modelFacts(files)
  const data = { kind: 'model' as const, path, format: files.kind, ...model, fingerprint: files.fingerprint }
  return { data, text: () => describe(path, files, model) }
}

async function modelFacts(files: ModelFiles): Promise<ModelFacts> {
  const { config } = files
  const tensors = [...files.tensors.values()]
  const dtypes: Record<string, number> = {}
  for (const { dtype } of tensors) dtypes[dtype] = (dtypes[dtype] ?? 0) + 1
  const number = (key: string) => (typeof config[key] === 'number' ? (config[key] as number) : null)
  const graph = tryGraph(files)
  const unsupported = graph instanceof UnsupportedError
  const faults = unsupported ? [graph.message] : faultsOf(graph, files)
  return {
    architecture: typeof config.model_type === 'string' ? config.model_type : null,
    context: number('max_position_embeddings'),
    parameters: tensors.reduce((sum, { shape }) => sum + shape.reduce((a, b) => a * b, 1), 0),
    layers: number('num_hidden_layers'),
    hidden_size: number('hidden_size'),
    tensors: tensors.length,
    dtypes,
    bytes: tensors.reduce((sum, { bytes }) => sum + bytes, 0),
    tokenizer: await tokenizerFacts(files),
    supported: faults.length === 0,
    ...(faults.length === 0 ? {} : { reason: faults.join('; ') }),
    unused_tensors: unsupported ? [] : weightFaults(graph, files.tensors).unused,
    memory: unsupported ? {} : memoryOf(graph, files),
  }
}

/** Number of names shown for each kind of fault. */
const SHOWN = 3

/** Why the weights cannot be loaded, one sentence per kind of fault. */
function faultsOf(graph: Graph, { tensors, config }: ModelFiles): string[] {
  const { missing, shapes } = weightFaults(graph, tensors)
  const listed = (all: readonly string[]) =>
    all.slice(0, SHOWN).join(', ') + (all.length > SHOWN ? ` and ${all.length - SHOWN} more` : '')
  const differing = shapes.map(
    ({ tensor, shape, expected }) =>
      `${tensor} is [${shape.join(', ')}], not [${expected.join(', ')}]${keysBehind(shape, expected, config)}`,
  )
  return [
    ...(missing.length === 0 ? [] : [`tensors of the config are missing from the files: ${listed(missing)}`]),
    ...(shapes.length === 0 ? [] : [`tensors have shapes that differ from the config: ${listed(differing)}`]),
  ]
}

/** The config keys that determine the differing sizes. */
function keysBehind(shape: number[], expected: number[], config: Record<string, unknown>): string {
  const keys = ['vocab_size', 'hidden_size', 'intermediate_size'].filter((key) =>
    expected.some((size, i) => size !== shape[i] && size === config[key]),
  )
  return keys.length === 0 ? '' : ` (${keys.map((key) => `${key} is ${config[key]}`).join(', ')})`
}

function tryGraph(files: ModelFiles): Graph | UnsupportedError {
  try {
    return graphOf(files.config)
  } catch (error) {
    if (error instanceof UnsupportedError) return error
    throw error
  }
}

async function tokenizerFacts(files: ModelFiles): Promise<ModelFacts['tokenizer']> {
  try {
    const { kind, path } = files
    const tokenizer = await WorkerTokenizer.open({ kind, path })
    const { vocabSize, source } = tokenizer.about
    await tokenizer.close()
    const { bos_token: bos = null, eos_token: eos = null } = specialTokensOf(source)
    return { vocab_size: vocabSize, bos, eos, chat_template: source.chatTemplate !== undefined }
  } catch (error) {
    // An unreadable tokenizer should not prevent showing the rest.
    if (error instanceof LowrankError) return { error: error.message }
    throw error
  }
}

/** Bytes of all weights in memory, at this machine's default precision. */
function memoryOf(graph: Graph, { tensors }: ModelFiles): Record<string, number> {
  const precision = resolvePrecision('auto')
  const dtypeOf = dtypesIn(tensors)
  const smallest = { tokens: 1, sequences: 1, headRows: 1, precision } as const
  const stored = storedQuantization(graph, dtypeOf)
  const possible = QUANTIZATIONS.filter(
    ({ type }) => type !== 'keep' || matrixDtypes(graph, dtypeOf).some(isBlockDtype),
  )
  const linears = stored === undefined ? possible : [stored]
  const small = stored ?? nf4()
  const ways: { quantization: Quantization; embeddingQuantization?: Quantization }[] = [
    ...linears.map((quantization) => ({ quantization })),
    ...[int8(), nf4()].map((embeddingQuantization) => ({ quantization: small, embeddingQuantization })),
  ]
  const sizes = ways.map((way) => {
    const formats = storageFormats(graph, dtypeOf, { ...way, precision, exact: false })
    const { rows } = translated(() =>
      addon().plan(graph, formats, [], { evaluate: { mode: 'evaluate', ...smallest } }),
    )
    const weights = rows.filter(
      ({ category }) => category === 'weights' || category === 'quantization_constants',
    )
    return [describeBoth(way), weights.reduce((sum, { bytes }) => sum + bytes, 0)]
  })
  return Object.fromEntries(sizes)
}

function unusedOf(names: readonly string[]): string | undefined {
  if (names.length === 0) return undefined
  const shown = names.slice(0, SHOWN).join(', ')
  return names.length > SHOWN ? `${shown} and ${names.length - SHOWN} more` : shown
}

function describe(path: string, { kind }: ModelFiles, model: ModelFacts): string {
  const { tokenizer } = model
  const dtypes = Object.entries(model.dtypes).map(([dtype, count]) => `${count} ${dtype}`)
  const size = model.hidden_size && `, hidden size ${model.hidden_size}`
  const lines = facts([
    ['model', path],
    ['format', kind === 'gguf' ? 'GGUF' : 'safetensors'],
    ['architecture', model.architecture ?? 'unknown'],
    ['parameters', formatCount(model.parameters)],
    ['layers', `${model.layers ?? 'unknown'}${size || ''}`],
    ['context', model.context === null ? undefined : `${formatCount(model.context)} tokens`],
    ['tensors', `${model.tensors} (${dtypes.join(', ')}), ${formatBytes(model.bytes)}`],
    ['tokenizer', 'error' in tokenizer ? tokenizer.error : `${formatCount(tokenizer.vocab_size)} tokens`],
    ['chat template', 'error' in tokenizer ? undefined : tokenizer.chat_template ? 'yes' : 'no'],
    ['cannot be loaded', model.reason],
    ['tensors not used', unusedOf(model.unused_tensors)],
  ])
  const memory = Object.entries(model.memory).map(
    ([name, bytes]) => [`  ${name}`, formatBytes(bytes)] as const,
  )
  if (memory.length === 0) return lines
  return `${lines}\n\nWeights in memory with quantization:\n${facts(memory)}`
}
