/**
 * Opens a model from disk, be it a Hugging Face folder or a GGUF file, and describes both in one form: a config with
 * Hugging Face keys and, by Hugging Face name, where each tensor's bytes lie. Headers are read and checked; weights
 * are not.
 */

import { createHash } from 'node:crypto'
import { readdir, realpath, stat } from 'node:fs/promises'
import { basename, dirname, join, resolve, sep } from 'node:path'
import { FileFormatError, UnsupportedError } from '../errors.js'
import { readNf4Tensors, storedNf4 } from './bnb.js'
import { fingerprintModel } from './fingerprint.js'
import { readGgufHeader } from './gguf.js'
import { translateGguf } from './gguf-model.js'
import { quote, readJsonObject, readText } from './input.js'
import { JsonScanner, JsonSyntaxError } from './json-scanner.js'
import { readSafetensorsHeader, type SafetensorsHeader } from './safetensors.js'
import { PLAIN_DTYPES, type SourceDtype, type TensorSource } from './tensor-source.js'

export type { SourceDtype, TensorSource } from './tensor-source.js'

export interface ModelFiles {
  kind: 'folder' | 'gguf'
  path: string
  /** Keys of a Hugging Face config.json; for GGUF rebuilt from the metadata. */
  config: Record<string, unknown>
  /** By Hugging Face name, e.g. `model.layers.0.self_attn.q_proj.weight`. */
  tensors: Map<string, TensorSource>
  /** Divisors of the rotary frequencies, F32 `[head_dim / 2]`; only from GGUF, where they replace llama3 scaling. */
  ropeFactors?: TensorSource
  generationConfig?: Record<string, unknown>
  /** Identifies the content in caches and checkpoints: names, sizes, headers and samples of every tensor, in hex. */
  fingerprint: string
}

const CONFIG_LIMIT = 16 << 20
const INDEX_LIMIT = 100_000_000

const SINGLE_FILE = 'model.safetensors'
const INDEX_FILE = 'model.safetensors.index.json'
/** `owner/name`, as the hub has it. */
const HUB_ID = /^[A-Za-z0-9][\w.-]*\/([A-Za-z0-9][\w.-]*)$/
const FILE_OF_MODEL = /\.(gguf|safetensors|json|bin|pt|pth|ckpt|pkl)$/i
const PICKLE = /\.(bin|pt|pth|ckpt|pkl)$/i

/** Buffers that older checkpoints carry beside their weights and that every loader recomputes. */
const IGNORED_BUFFERS = /(^|\.)(position_ids|rotary_emb\.inv_freq|attn\.bias|attn\.masked_bias)$/

/**
 * @param path a folder with config.json and safetensors, or a GGUF file
 * @throws FileFormatError when something is missing, truncated, malformed or points out of the folder;
 * UnsupportedError for pickled weights, dtypes and GGUF architectures that cannot be loaded.
 */
export async function openModelFiles(path: string): Promise<ModelFiles> {
  const stats = await stat(path).catch((cause) => {
    throw noModel(path, cause)
  })
  if (stats.isDirectory()) return openFolder(path)
  if (PICKLE.test(path)) throw pickleRefused(path)
  if (path.endsWith('.safetensors')) {
    throw new FileFormatError(`${path} is only the weights; name the folder that also holds config.json`, {
      path,
    })
  }
  return openGguf(path)
}

async function openGguf(path: string): Promise<ModelFiles> {
  const header = await readGgufHeader(path)
  const { config, tensors, ropeFactors } = translateGguf(header)
  const sources = ropeFactors ? [...tensors.values(), ropeFactors] : [...tensors.values()]
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
  return model
}

async function openFolder(path: string): Promise<ModelFiles> {
  const names = new Set(await readdir(path))
  if (!names.has('config.json')) throw noConfig(path, names)
  const configPath = await fileInside(path, 'config.json')
  const config = await readJsonObject(configPath, CONFIG_LIMIT)
  storedNf4(config, configPath)
  const headers = names.has(SINGLE_FILE)
    ? [await readSafetensorsHeader(await fileInside(path, SINGLE_FILE))]
    : names.has(INDEX_FILE)
      ? await readShards(path)
      : noWeights(path, names)
  const tensors = new Map<string, TensorSource>()
  const quantized = await readNf4Tensors(headers)
  for (const source of quantized.sources) tensors.set(source.name, source)
  for (const header of headers) addTensors(tensors, header, quantized.names)
  const configHash = createHash('sha256').update(JSON.stringify(config)).digest('hex')
  const inputs = [{ path: configPath, size: 0, headerSha256: configHash }]
  for (const { path: file, fileSize: size, headerSha256 } of headers)
    inputs.push({ path: file, size, headerSha256 })
  const fingerprint = await fingerprintModel(inputs, [...tensors.values()])
  const model: ModelFiles = { kind: 'folder', path, config, tensors, fingerprint }
  if (names.has('generation_config.json')) {
    model.generationConfig = await readJsonObject(
      await fileInside(path, 'generation_config.json'),
      CONFIG_LIMIT,
    )
  }
  return model
}

/** What there is to say when nothing stands at the path of a model, which may have been meant as a name on the hub. */
export function noModel(path: string, cause: unknown): FileFormatError {
  const missing = `there is no model at ${path}`
  const name = HUB_ID.exec(path)?.[1]
  if (name === undefined || FILE_OF_MODEL.test(path)) return new FileFormatError(missing, { path }, { cause })
  return new FileFormatError(
    `${missing}. If that is its name on the Hugging Face hub: downloading is not available yet. Get the files with ` +
      `\`huggingface-cli download ${path} --local-dir models/${name}\` (\`hf download\` in newer versions) and name the folder, models/${name}.`,
    { path },
    { cause },
  )
}

function noConfig(path: string, names: ReadonlySet<string>): FileFormatError {
  const gguf = [...names].filter((name) => name.endsWith('.gguf')).sort()[0]
  const advice = gguf
    ? `; it holds a GGUF file, name that: ${join(path, gguf)}`
    : names.has('adapter_config.json')
      ? '; it is an adapter: name its base model and load the adapter onto that'
      : ''
  return new FileFormatError(`the folder ${path} has no config.json${advice}`, { path })
}

function noWeights(path: string, names: ReadonlySet<string>): never {
  const pickle = [...names].filter((name) => PICKLE.test(name)).sort()[0]
  if (pickle !== undefined) throw pickleRefused(join(path, pickle))
  throw new FileFormatError(`the folder ${path} has neither ${SINGLE_FILE} nor ${INDEX_FILE}`, { path })
}

function pickleRefused(path: string): UnsupportedError {
  return new UnsupportedError(
    `${path} is a pickle, which can run code when it is read, and is never opened; ` +
      'convert it in Python with model.save_pretrained(folder, safe_serialization=True)',
    { path },
  )
}

/**
 * The real path of a file of a model folder. Links may lead inside the folder or, as in the Hugging Face cache, from
 * `snapshots/<revision>` to `blobs` beside it; anything else would let a downloaded folder read other files.
 */
export async function fileInside(folder: string, name: string): Promise<string> {
  const path = join(folder, name)
  const [root, real] = await Promise.all([realpath(folder), realpath(path)]).catch((cause) => {
    throw new FileFormatError(`${path} is missing or a broken link; download it again`, { path }, { cause })
  })
  const roots = [root]
  if (basename(dirname(root)) === 'snapshots') roots.push(resolve(root, '..', '..', 'blobs'))
  if (!roots.some((allowed) => real.startsWith(allowed + sep))) {
    throw new FileFormatError(`${path} is a link out of its folder, to ${real}; put the file itself there`, {
      path,
      real,
    })
  }
  // The link itself is kept as the name: the cache's blobs are named by hash.
  return path
}

/** Reads the shards that an index names, and leaves in each header only the tensors that the index puts there. */
async function readShards(folder: string): Promise<SafetensorsHeader[]> {
  const indexPath = await fileInside(folder, INDEX_FILE)
  const byShard = readIndex(indexPath, await readText(indexPath, INDEX_LIMIT))
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

/** The tensor names of each shard. */
function readIndex(path: string, text: string): Map<string, string[]> {
  const byShard = new Map<string, string[]>()
  const scanner = new JsonScanner(text)
  try {
    let found = false
    scanner.object((key) => {
      if (key !== 'weight_map') return scanner.skip(16)
      found = true
      scanner.object((tensor) => {
        const shard = scanner.string()
        checkShardName(path, shard)
        const names = byShard.get(shard)
        if (names) names.push(tensor)
        else byShard.set(shard, [tensor])
      })
    })
    scanner.end()
    if (!found || byShard.size === 0)
      throw new FileFormatError(`${path} has no weight_map, or an empty one`, { path })
  } catch (error) {
    if (!(error instanceof JsonSyntaxError)) throw error
    throw new FileFormatError(
      `${path} is not a valid shard index: ${error.message}`,
      { path },
      { cause: error },
    )
  }
  return byShard
}

function checkShardName(path: string, shard: string): void {
  if (PICKLE.test(shard)) throw pickleRefused(join(dirname(path), basename(shard)))
  // A plain name: no separator of any platform, no drive letter, no "..", no control character.
  if (!/^[A-Za-z0-9_][\w .+-]*\.safetensors$/.test(shard)) {
    throw new FileFormatError(
      `${path} places tensors in ${quote(shard)}, which is not a plain *.safetensors file name`,
      {
        path,
        shard,
      },
    )
  }
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
        `tensor ${quote(name)} of ${header.path} has the dtype ${dtype}; F32, F16 and BF16 can be loaded`,
        { path: header.path, tensor: name, dtype },
      )
    }
    tensors.set(name, { name, file: header.path, offset, bytes, dtype: dtype as SourceDtype, shape })
  }
}
