/** The index of a checkpoint in several safetensors files: which file holds which tensors. */
import { basename, dirname, join } from 'node:path'
import { FileFormatError } from '../core/errors.js'
import { quote } from '../core/quote.js'
import { readText } from '../io/input.js'
import { JsonScanner, JsonSyntaxError } from '../io/json-scanner.js'
import { isPickle, pickleRefused } from '../io/pickles.js'

/** Location of the weights in a model folder: one file, or shards with an index. */
export const SINGLE_FILE = 'model.safetensors'
export const INDEX_FILE = 'model.safetensors.index.json'

const INDEX_LIMIT = 100_000_000

/**
 * Reads which shard holds which tensors.
 * @throws FileFormatError when it is malformed or names anything but plain files beside it
 */
export async function readShardIndex(path: string): Promise<Map<string, string[]>> {
  const text = await readText(path, INDEX_LIMIT)
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
  if (isPickle(shard)) throw pickleRefused(join(dirname(path), basename(shard)))
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
