/**
 * Opens a model from disk, either a Hugging Face folder or a GGUF file, and describes both in one form: a config with
 * Hugging Face keys, and the location of each tensor by Hugging Face name. Headers are read and validated; weights are
 * not read.
 */

import { createHash } from 'node:crypto'
import { readdir, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { FileFormatError, type LowrankError, UnsupportedError } from '../core/errors.js'
import { quote } from '../core/quote.js'
import { readJsonObject } from '../io/input.js'
import { fileInside } from '../io/inside.js'
import { isPickle, pickleRefused } from '../io/pickles.js'
import { readQuantizedTensors, storedQuantization } from './bnb.js'
import { fingerprintModel } from './fingerprint.js'
import { adapterForm, kohyaRefused, refuseMlx } from './foreign-weights.js'
import { readGgufHeader } from './gguf.js'
import type { GgufForms } from './gguf-form.js'
import { translateGguf } from './gguf-model.js'
import {
  formatFromGguf,
  formatOfSidecar,
  GGUF_PROMPT_FORMAT,
  type PromptFormat,
  SIDECAR,
  SIDECAR_LIMIT,
} from './prompt-format.js'
import { readFactors } from './rope-factors.js'
import { readSafetensorsHeader, type SafetensorsHeader } from './safetensors.js'
import { INDEX_FILE, numberedShards, readShardIndex, SINGLE_FILE } from './shard-index.js'
import { PLAIN_DTYPES, type SourceDtype, type TensorSource } from './tensor-source.js'
import { type TextModel, textModelOf, type Whole, type Wholes, wholeOf } from './text-model.js'

export type { SourceDtype, TensorSource } from './tensor-source.js'

export interface ModelFiles {
  kind: 'folder' | 'gguf'
  path: string
  /** Keys of a Hugging Face config.json; for GGUF, rebuilt from the metadata. */
  config: Record<string, unknown>
  /** By Hugging Face name, e.g. `model.layers.0.self_attn.q_proj.weight`. */
  tensors: Map<string, TensorSource>
  /** Divisors of the rotary frequencies, F32 `[head_dim / 2]`; only from GGUF, where they replace llama3 scaling. */
  ropeFactors?: TensorSource
  /** The class of the multimodal model that it is the text model of. */
  whole?: Whole
  /** Prompt format used in training; only for models written by lowrank. */
  promptFormat?: PromptFormat | null
  /** Content hash for caches and checkpoints: names, sizes, headers, and samples of every tensor, in hex. */
  fingerprint: string
}

/** Maximum size of config.json, in bytes. */
export const CONFIG_LIMIT = 16 << 20

/** Buffers stored in older checkpoints that every loader recomputes. */
const IGNORED_BUFFERS = /(^|\.)(position_ids|rotary_emb\.inv_freq|attn\.bias|attn\.masked_bias)$/

/**
 * Opens a model.
 * @param path a folder with config.json and safetensors, or a GGUF file
 * @param known how the models of each architecture are stored in GGUF files, and multimodal models
 * @throws FileFormatError when something is missing, truncated, malformed, or points outside the folder;
 * UnsupportedError for pickled weights, and for dtypes and GGUF architectures that cannot be loaded.
 */
export async function openModelFiles(
  path: string,
  { forms, wholes }: { forms: GgufForms; wholes: Wholes },
): Promise<ModelFiles> {
  const stats = await stat(path).catch((cause) => {
    throw new FileFormatError(`there is no model at ${path}`, { path }, { cause })
  })
  if (stats.isDirectory()) return openFolder(path, wholes)
  if (isPickle(path)) throw pickleRefused(path)
  if (path.endsWith('.safetensors')) {
    const form = adapterForm(await readSafetensorsHeader(path))
    if (form === 'kohya') throw kohyaRefused(path)
    const advice = form
      ? 'it is an adapter: pass its base model, and load the adapter on top of it'
      : 'name the folder that also holds config.json'
    throw new FileFormatError(`${path} is only the weights; ${advice}`, { path })
  }
  if (path.endsWith('.json'))
    throw new FileFormatError(
      `${path} describes a model but has no weights, which is enough for planning only; pass a folder with both, or a .gguf file`,
      { path },
    )
  return openGguf(path, forms)
}

async function openGguf(path: string, forms: GgufForms): Promise<ModelFiles> {
  // The tokenizer is read separately on demand: its strings would stay on the heap of a process that only trains.
  const header = await readGgufHeader(path, { strings: false })
  const { config, tensors, ropeFactors, longFactors } = translateGguf(header, forms)
  const sources = [...tensors.values(), ...(ropeFactors ? [ropeFactors] : []), ...longFactors.values()]
  // config.json stores these as numbers.
  for (const [key, source] of longFactors)
    Object.assign(config.rope_scaling as object, { [key]: Array.from(await readFactors(source)) })
  const fingerprint = await fingerprintModel(
    [{ path, size: header.fileSize, headerSha256: header.headerSha256 }],
    sources,
  )
  const model: ModelFiles = {
    kind: 'gguf',
    path,
    config,
    tensors,
    fingerprint,
  }
  if (ropeFactors) model.ropeFactors = ropeFactors
  model.promptFormat = formatFromGguf(header.metadata.get(GGUF_PROMPT_FORMAT), path)
  return model
}

/**
 * Opens a folder with config.json and safetensors.
 * @param wholes multimodal models; by default none
 * @throws as `openModelFiles`
 */
export async function openFolder(path: string, wholes: Wholes = new Map()): Promise<ModelFiles> {
  const names = new Set(
    await readdir(path).catch((cause) => {
      throw new FileFormatError(`there is no model at ${path}`, { path }, { cause })
    }),
  )
  if (!names.has('config.json')) throw await noConfig(path, names)
  const configPath = await fileInside(path, 'config.json')
  const written = await readJsonObject(configPath, CONFIG_LIMIT)
  refuseMlx(written, path)
  const whole = wholeOf(written, wholes)
  const text = whole && textModelOf(written, whole, configPath)
  const config = text?.config ?? written
  storedQuantization(config, configPath)
  const headers = names.has(SINGLE_FILE)
    ? [await readSafetensorsHeader(await fileInside(path, SINGLE_FILE))]
    : names.has(INDEX_FILE)
      ? await readShards(path)
      : await readNumberedShards(path, names)
  const tensors = new Map<string, TensorSource>()
  const quantized = await readQuantizedTensors(headers)
  for (const source of quantized.sources) tensors.set(source.name, source)
  const others = new Set(quantized.names)
  if (text !== undefined)
    for (const { tensors: all } of headers)
      for (const name of all.keys()) if (text.nameOf(name) === undefined) others.add(name)
  for (const header of headers) addTensors(tensors, header, others)
  const configHash = createHash('sha256').update(JSON.stringify(written)).digest('hex')
  const inputs = [{ path: configPath, size: 0, headerSha256: configHash }]
  for (const { path: file, fileSize: size, headerSha256 } of headers)
    inputs.push({ path: file, size, headerSha256 })
  const fingerprint = await fingerprintModel(inputs, [...tensors.values()])
  const model: ModelFiles = { kind: 'folder', path, config, tensors, fingerprint }
  if (text !== undefined) {
    model.tensors = textTensors(tensors, text)
    model.whole = whole
  }
  if (names.has(SIDECAR)) {
    const sidecar = await fileInside(path, SIDECAR)
    model.promptFormat = formatOfSidecar(await readJsonObject(sidecar, SIDECAR_LIMIT), sidecar)
  }
  return model
}

async function noConfig(path: string, names: ReadonlySet<string>): Promise<LowrankError> {
  const gguf = [...names].filter((name) => name.endsWith('.gguf')).sort()[0]
  const [weights] = [...names].filter((name) => name.endsWith('.safetensors'))
  const form = weights && adapterForm(await readSafetensorsHeader(await fileInside(path, weights)))
  if (form === 'kohya') return kohyaRefused(join(path, weights as string))
  const advice = gguf
    ? `; it holds a GGUF file, name that: ${join(path, gguf)}`
    : form || names.has('adapter_config.json')
      ? '; it is an adapter: pass its base model, and load the adapter on top of it'
      : ''
  return new FileFormatError(`the folder ${path} has no config.json${advice}`, { path })
}

function noWeights(path: string, names: ReadonlySet<string>): never {
  const pickle = [...names].filter((name) => isPickle(name)).sort()[0]
  if (pickle !== undefined) throw pickleRefused(join(path, pickle))
  throw new FileFormatError(
    `the folder ${path} has neither ${SINGLE_FILE} nor ${INDEX_FILE}: without weights, the model can only be planned`,
    { path },
  )
}

/** Reads the shards listed in an index, keeping in each header only the tensors that the index assigns to it. */
async function readShards(folder: string): Promise<SafetensorsHeader[]> {
  const indexPath = await fileInside(folder, INDEX_FILE)
  const byShard = await readShardIndex(indexPath)
  const present = new Set(await readdir(folder))
  const headers: SafetensorsHeader[] = []
  for (const shard of [...byShard.keys()].sort()) {
    if (!present.has(shard)) {
      throw new FileFormatError(
        `the shard ${quote(shard)}, named in ${indexPath}, is missing; download it again`,
        {
          path: indexPath,
          shard,
        },
      )
    }
    const header = await readSafetensorsHeader(await fileInside(folder, shard))
    const tensors: SafetensorsHeader['tensors'] = new Map()
    for (const name of byShard.get(shard) ?? []) {
      const tensor = header.tensors.get(name)
      if (!tensor) {
        throw new FileFormatError(
          `${header.path} lacks the tensor ${quote(name)} that ${indexPath} places there`,
          {
            path: header.path,
            tensor: name,
          },
        )
      }
      tensors.set(name, tensor)
    }
    headers.push({ ...header, tensors })
  }
  return headers
}

/** Reads all shards of a folder without an index. @throws FileFormatError when one of them is missing */
async function readNumberedShards(folder: string, names: ReadonlySet<string>): Promise<SafetensorsHeader[]> {
  const shards = numberedShards(names)
  if (shards === undefined) return noWeights(folder, names)
  const { present, missing } = shards
  const [first] = missing
  if (first !== undefined)
    throw new FileFormatError(
      `the folder ${folder} has ${present.length} of ${present.length + missing.length} shards and no ${INDEX_FILE}: ${first} ${missing.length === 1 ? 'is' : `and ${missing.length - 1} more are`} missing; download ${missing.length === 1 ? 'it' : 'them'} again`,
      { path: folder, missing },
    )
  const headers: SafetensorsHeader[] = []
  const seen = new Map<string, string>()
  for (const shard of present) {
    const header = await readSafetensorsHeader(await fileInside(folder, shard))
    for (const name of header.tensors.keys()) {
      const other = seen.get(name)
      if (other !== undefined)
        throw new FileFormatError(
          `${header.path} and ${other} both hold the tensor ${quote(name)}; without ${INDEX_FILE}, each tensor must be in one shard`,
          { path: header.path, tensor: name },
        )
      seen.set(name, shard)
    }
    headers.push(header)
  }
  return headers
}

/** The tensors of the text model, under its own names. */
function textTensors(tensors: ReadonlyMap<string, TensorSource>, text: TextModel): Map<string, TensorSource> {
  return new Map(
    [...tensors.values()].flatMap((source) => {
      const name = text.nameOf(source.name)
      return name === undefined ? [] : [[name, { ...source, name }] as const]
    }),
  )
}

function addTensors(
  tensors: Map<string, TensorSource>,
  header: SafetensorsHeader,
  quantized: ReadonlySet<string>,
): void {
  for (const { name, dtype, shape, offset, bytes } of header.tensors.values()) {
    if (IGNORED_BUFFERS.test(name) || quantized.has(name)) continue
    if (!PLAIN_DTYPES.has(dtype)) {
      throw new UnsupportedError(
        `tensor ${quote(name)} of ${header.path} has the dtype ${dtype}; supported: F32, F16, BF16`,
        { path: header.path, tensor: name, dtype },
      )
    }
    tensors.set(name, { name, file: header.path, offset, bytes, dtype: dtype as SourceDtype, shape })
  }
}
