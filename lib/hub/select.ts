/**
 * Selects the files of a repository to download: those that lowrank reads, never pickles or copies for other programs.
 */
import { FileFormatError, HubError, UnsupportedError } from '../core/errors.js'
import { INDEX_FILE, numberedShards, SINGLE_FILE } from '../formats/shard-index.js'
import { isPickle, pickleRefused } from '../io/pickles.js'
import type { HubFile, HubListing } from './cache.js'

/**
 * Purpose of the download: a model to load; only the files that determine its memory use, or only its tokenizer, if
 * these are separate files; an adapter; or either a model or an adapter.
 */
export type HubKind = 'model' | 'config' | 'tokenizer' | 'adapter' | 'any'

export interface Selection {
  files: HubFile[]
  /** The file that is the model; null if the folder is. */
  main: string | null
  /** True if `files` includes an index that lists more files. */
  sharded: boolean
}

const BESIDE =
  /^((generation_config|special_tokens_map|added_tokens|chat_template|lowrank|tokenizer[\w.-]*)\.json|tokenizer\.model|chat_template\.jinja|additional_chat_templates\/[\w.-]+\.jinja)$/
const ADAPTER_CONFIG = 'adapter_config.json'
const ADAPTER_WEIGHTS = 'adapter_model.safetensors'
/** Weights of an adapter of mlx-lm, which has another config of the same name. */
const MLX_ADAPTER_WEIGHTS = 'adapters.safetensors'
/** Files that lowrank writes alongside an adapter. */
const ADAPTER_OPTIONAL = ['lowrank.json']
const NAMED_AT_MOST = 12

/**
 * Selects the files to download.
 * @param repo for error messages
 * @param file the requested GGUF file
 * @throws HubError when the repository contains nothing that can be loaded, or several candidates; UnsupportedError for
 * pickles
 */
export function selectFiles(
  listing: HubListing,
  kind: HubKind,
  repo: string,
  file: string | null,
): Selection {
  if (kind === 'any') {
    const adapter = listing.has(ADAPTER_CONFIG) && !listing.has('config.json')
    return selectFiles(listing, adapter ? 'adapter' : 'model', repo, file)
  }
  if (kind === 'adapter') return { files: adapterFiles(listing, repo, file), main: null, sharded: false }
  if (file !== null) return ggufFile(listing, repo, file)
  const config = listing.get('config.json')
  if (config && kind === 'config') return { files: [config], main: null, sharded: false }
  const beside = [...listing.values()].filter(({ path }) => BESIDE.test(path))
  if (config && kind === 'tokenizer' && listing.has('tokenizer.json'))
    return { files: [config, ...beside], main: null, sharded: false }
  const weights = listing.get(SINGLE_FILE) ?? listing.get(INDEX_FILE)
  if (config && weights)
    return { files: [config, ...beside, weights], main: null, sharded: weights.path === INDEX_FILE }
  const shards = numberedShards(listing.keys())
  if (config && shards?.missing.length === 0)
    return {
      files: [config, ...beside, ...selectShards(listing, shards.present, repo)],
      main: null,
      sharded: false,
    }
  return onlyGguf(listing, repo)
}

/** The shards listed in an index. */
export function selectShards(listing: HubListing, shards: Iterable<string>, repo: string): HubFile[] {
  return [...shards].sort().map((shard) => {
    const file = listing.get(shard)
    if (file) return file
    throw new HubError(`${repo} lacks the file ${shard}, which its ${INDEX_FILE} lists.`, {
      reason: 'file_not_found',
      repo,
      path: shard,
    })
  })
}

function adapterFiles(listing: HubListing, repo: string, file: string | null): HubFile[] {
  if (file !== null)
    throw new UnsupportedError(`${repo}/${file} is a GGUF file; adapters are read from PEFT's folders.`, {
      repo,
    })
  const config = listing.get(ADAPTER_CONFIG)
  const weights = listing.get(ADAPTER_WEIGHTS) ?? (config && listing.get(MLX_ADAPTER_WEIGHTS))
  // A state dict of PEFT is read without a config, but a repository with one named so is a model.
  if (weights && (config || !listing.has('config.json'))) {
    const optional = ADAPTER_OPTIONAL.flatMap((name) => listing.get(name) ?? [])
    return [...(config ? [config] : []), weights, ...optional]
  }
  const pickle = [...listing.keys()].find((path) => /^adapter_model\.\w+$/.test(path) && isPickle(path))
  if (pickle !== undefined) throw pickleRefused(`${pickle} of ${repo}`)
  const advice = listing.has('config.json') ? '; it is a model' : ''
  throw nothing(repo, `${repo} is not an adapter: it lacks ${ADAPTER_CONFIG} or ${ADAPTER_WEIGHTS}${advice}.`)
}

function ggufFile(listing: HubListing, repo: string, path: string): Selection {
  const found = listing.get(path)
  if (found) return { files: [found], main: path, sharded: false }
  const others = ggufFiles(listing)
  const advice = others.length === 0 ? 'It has no GGUF files.' : `It has ${named(others)}.`
  throw new HubError(`${repo} has no file ${path}. ${advice}`, { reason: 'file_not_found', repo, path })
}

function onlyGguf(listing: HubListing, repo: string): Selection {
  const files = ggufFiles(listing)
  const [only] = files
  if (only && files.length === 1) return { files: [only], main: only.path, sharded: false }
  if (only)
    throw new FileFormatError(
      `${repo} has several GGUF files: ${named(files)}. Name one of them, as ${repo}/${only.path}.`,
      { repo, files: files.map(({ path }) => path) },
    )
  if (listing.has(ADAPTER_CONFIG))
    throw nothing(repo, `${repo} is an adapter: pass its base model, and load the adapter on top of it.`)
  const pickle = [...listing.keys()].find((path) => isPickle(path) && /model/.test(path))
  if (pickle !== undefined) throw pickleRefused(`${pickle} of ${repo}`)
  const lacking = listing.has('config.json')
    ? `${SINGLE_FILE} nor ${INDEX_FILE}`
    : 'config.json with safetensors'
  throw nothing(repo, `${repo} has no supported model: neither ${lacking}, nor a GGUF file.`)
}

/** Models in a single GGUF file: no split files, no multimodal projectors. */
function ggufFiles(listing: HubListing): HubFile[] {
  return [...listing.values()].filter(
    ({ path }) => /\.gguf$/i.test(path) && !/-\d{5}-of-\d{5}\.gguf$|(^|\/)mmproj/i.test(path),
  )
}

function named(files: readonly HubFile[]): string {
  const shown = files.slice(0, NAMED_AT_MOST).map(({ path }) => path)
  return shown.join(', ') + (files.length > NAMED_AT_MOST ? `, and ${files.length - NAMED_AT_MOST} more` : '')
}

function nothing(repo: string, message: string): HubError {
  return new HubError(message, { reason: 'no_model', repo })
}
