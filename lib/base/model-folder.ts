/**
 * Writes a model as a Hugging Face folder: config.json, the weights in one file or in shards with an index, and the
 * accompanying files (generation_config.json, tokenizer, chat templates, license), copied from a folder or rebuilt from
 * a GGUF file. The write is atomic, and only one chunk of one tensor is in memory at a time.
 */
import { existsSync } from 'node:fs'
import { mkdir, readdir, rm } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { readGgufHeader } from '../formats/gguf.js'
import { CONFIG_LIMIT, type ModelFiles } from '../formats/model-files.js'
import {
  type PromptFormat,
  SIDECAR,
  SIDECAR_LIMIT,
  SIDECAR_VERSION,
  sidecarEntry,
} from '../formats/prompt-format.js'
import { type SafetensorsInput, tensorSize, writeSafetensors } from '../formats/safetensors.js'
import { type TensorControl, watchTensors } from '../formats/tensor-data.js'
import { textModelOf } from '../formats/text-model.js'
import { writeFileWhole } from '../io/atomic.js'
import { writeFolder } from '../io/atomic-folder.js'
import { readBytes, readWrittenJson } from '../io/input.js'
import { fileInside } from '../io/inside.js'
import { writtenText } from '../io/written-json.js'
import { configFromGguf, tokenizerFilesFromGguf } from './gguf-to-folder.js'

/** Dtypes in which weights can be written. */
export type ModelDtype = 'BF16' | 'F16' | 'F32'

const TORCH_DTYPES = { BF16: 'bfloat16', F16: 'float16', F32: 'float32' } as const

/** Maximum size of a weight file, as in transformers. */
const DEFAULT_SHARD_BYTES = 5_000_000_000

/** Files to copy: generation settings and tokenizer, and license. */
const SETTINGS =
  /^(generation_config\.json|tokenizer\.json|tokenizer_config\.json|special_tokens_map\.json|added_tokens\.json|tokenizer\.model|vocab\.json|merges\.txt|chat_template\.(jinja|json))$/
const LICENSE = /^(LICEN[CS]E|NOTICE|USE_POLICY)[\w.-]*$/
const LARGEST_COPIED = 256 << 20
const TEMPLATES = 'additional_chat_templates'
const WEIGHT_FILE = /^model(-\d{5}-of-\d{5})?\.safetensors(\.index\.json)?$/

/** True for the name of a file or folder of a model that programs read. */
export const isModelFile = (name: string): boolean =>
  name === 'config.json' || name === TEMPLATES || SETTINGS.test(name) || WEIGHT_FILE.test(name)

export interface ModelFolderOptions extends TensorControl {
  /** Maximum size of a weight file; a larger tensor gets its own file. Default 5e9. */
  maxShardBytes?: number
  /** `quantization_config` for config.json; the dtype in it then stays as in the source. */
  quantization?: Record<string, unknown>
  /** Prompt format used in training, for lowrank.json. */
  format?: PromptFormat | null
  /** Writes additional files to the same folder. */
  more?: (folder: string) => Promise<void>
  /** Replace an existing folder instead of adding files to it. Default false. */
  replace?: boolean
}

/**
 * Writes a model folder.
 * @param path destination; existing files of the same names are replaced, and weights of an earlier model removed
 * @param source the opened model that provides the config, tokenizer, and other files
 * @param tensors every weight by its Hugging Face name, with dtype F32, F16, or BF16, in shard order. `data` is called
 * when the tensor is written. A `lm_head.weight` among them unties a tied head.
 * @returns the file names, sorted
 * @throws {WriteError} when the disk is full or refuses the write; no partial file is left behind
 * @throws {UnsupportedError} for a GGUF source whose tokenizer or rotary factors have no Hugging Face equivalent
 */
export async function writeModelFolder(
  path: string,
  source: ModelFiles,
  tensors: readonly SafetensorsInput[],
  options: ModelFolderOptions = {},
): Promise<string[]> {
  const small = await smallFiles(source, tensors, options.quantization)
  const shards = cut(watchTensors(tensors, tensorSize, options), options.maxShardBytes ?? DEFAULT_SHARD_BYTES)
  const names = shards.map((_, index) => shardName(index, shards.length))
  if (shards.length > 1) small.set('model.safetensors.index.json', indexText(shards, names))
  const sidecar = await sidecarText(path, options.format ?? null)
  if (sidecar !== undefined) small.set(SIDECAR, sidecar)
  const write = async (folder: string) => {
    for (const [name, contents] of small) {
      await mkdir(dirname(join(folder, name)), { recursive: true })
      await writeFileWhole(join(folder, name), contents)
    }
    for (const [index, shard] of shards.entries())
      await writeSafetensors(join(folder, names[index] as string), shard, { format: 'pt' })
    await options.more?.(folder)
  }
  await writeFolder(path, write, { replace: options.replace ?? false })
  const files = [...small.keys(), ...names].sort()
  await removeStaleWeights(path, new Set(files))
  // A leftover record would describe the previous model in this folder.
  if (sidecar === undefined) await rm(join(path, SIDECAR), { force: true })
  return files
}

/** Keeps what the file records about an adapter in the same folder. */
async function sidecarText(path: string, format: PromptFormat | null): Promise<string | undefined> {
  const file = join(path, SIDECAR)
  const shared = existsSync(file) && existsSync(join(path, 'adapter_config.json'))
  if (format === null && !shared) return undefined
  const kept = shared ? await readWrittenJson(file, SIDECAR_LIMIT) : { version: SIDECAR_VERSION }
  return jsonText({ ...kept, ...sidecarEntry(format) })
}

/** All files except the weights, by name. */
async function smallFiles(
  source: ModelFiles,
  tensors: readonly SafetensorsInput[],
  quantization: Record<string, unknown> | undefined,
): Promise<Map<string, string | Uint8Array>> {
  const files = new Map<string, string | Uint8Array>()
  files.set('config.json', jsonText(adaptedConfig(await writtenConfig(source), tensors, quantization)))
  if (source.kind === 'folder') {
    for (const name of await copiedNames(source.path))
      files.set(name, await readBytes(await fileInside(source.path, name), LARGEST_COPIED))
  } else {
    const { metadata } = await readGgufHeader(source.path)
    for (const [name, value] of Object.entries(tokenizerFilesFromGguf(metadata, source.path)))
      files.set(name, jsonText(value))
  }
  return files
}

/** The config of the model, with the numbers of a folder's config.json as they are spelled there. */
export async function writtenConfig(source: ModelFiles): Promise<Record<string, unknown>> {
  if (source.kind === 'gguf') return configFromGguf(source)
  const path = await fileInside(source.path, 'config.json')
  const config = await readWrittenJson(path, CONFIG_LIMIT)
  return source.whole === undefined ? config : textModelOf(config, source.whole, path).config
}

async function copiedNames(folder: string): Promise<string[]> {
  const names = (await readdir(folder)).filter((name) => SETTINGS.test(name) || LICENSE.test(name))
  const templates = join(folder, TEMPLATES)
  if (!existsSync(templates)) return names
  const named = (await readdir(templates)).filter((name) => name.endsWith('.jinja'))
  return [...names, ...named.map((name) => `${TEMPLATES}/${name}`)]
}

/** The config with its dtype key (in the source's spelling), quantization, and `tie_word_embeddings` updated. */
function adaptedConfig(
  config: Readonly<Record<string, unknown>>,
  tensors: readonly SafetensorsInput[],
  quantization: Record<string, unknown> | undefined,
): Record<string, unknown> {
  const adapted: Record<string, unknown> = { ...config }
  delete adapted.quantization_config
  if (quantization !== undefined) adapted.quantization_config = quantization
  const spelling = 'dtype' in adapted && !('torch_dtype' in adapted) ? 'dtype' : 'torch_dtype'
  if (quantization === undefined || adapted[spelling] === undefined)
    adapted[spelling] = TORCH_DTYPES[mainDtype(tensors)]
  if (adapted.tie_word_embeddings === true && tensors.some(({ name }) => name === 'lm_head.weight'))
    adapted.tie_word_embeddings = false
  return adapted
}

/** The dtype with the most bytes. */
function mainDtype(tensors: readonly SafetensorsInput[]): ModelDtype {
  const bytes = { BF16: 0, F16: 0, F32: 0 }
  for (const tensor of tensors)
    if (tensor.dtype in bytes) bytes[tensor.dtype as ModelDtype] += tensorSize(tensor)
  return (Object.keys(bytes) as ModelDtype[]).reduce((best, dtype) =>
    bytes[dtype] > bytes[best] ? dtype : best,
  )
}

/** Splits tensors in order, starting a new file whenever the next tensor would exceed the limit. */
function cut(tensors: readonly SafetensorsInput[], maxBytes: number): SafetensorsInput[][] {
  const shards: SafetensorsInput[][] = []
  let used = Number.POSITIVE_INFINITY
  for (const tensor of tensors) {
    const bytes = tensorSize(tensor)
    if (used + bytes > maxBytes) {
      shards.push([])
      used = 0
    }
    shards.at(-1)?.push(tensor)
    used += bytes
  }
  return shards
}

function shardName(index: number, count: number): string {
  const padded = (value: number) => String(value).padStart(5, '0')
  return count === 1 ? 'model.safetensors' : `model-${padded(index + 1)}-of-${padded(count)}.safetensors`
}

function indexText(shards: readonly SafetensorsInput[][], names: readonly string[]): string {
  const places = shards.flatMap((shard, index) =>
    shard.map((tensor) => [tensor.name, names[index] as string] as const),
  )
  const total = shards.flat().reduce((sum, tensor) => sum + tensorSize(tensor), 0)
  return jsonText({ metadata: { total_size: total }, weight_map: Object.fromEntries(places.sort()) })
}

const jsonText = (value: unknown): string => `${writtenText(value)}\n`

/** Removes weights of an earlier model, which would be loaded instead of these or waste space. */
async function removeStaleWeights(path: string, files: ReadonlySet<string>): Promise<void> {
  for (const name of await readdir(path))
    if (WEIGHT_FILE.test(name) && !files.has(name)) await rm(join(path, name))
}
