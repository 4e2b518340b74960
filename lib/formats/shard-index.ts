/** The index of a checkpoint with several safetensors files, which maps tensors to files. */
import { basename, dirname, join } from 'node:path'
import { FileFormatError } from '../core/errors.js'
import { quote } from '../core/quote.js'
import { readText } from '../io/input.js'
import { JsonScanner, JsonSyntaxError } from '../io/json-scanner.js'
import { isPickle, pickleRefused } from '../io/pickles.js'

/** Weight files in a model folder: a single file, or shards with an index. */
export const SINGLE_FILE = 'model.safetensors'
export const INDEX_FILE = 'model.safetensors.index.json'

/** Shards of a folder without an index, by the numbers in their names. */
export interface NumberedShards {
  present: string[]
  missing: string[]
}

/**
 * The shards `model-00001-of-0000N.safetensors` among the names of a folder, of the series that lacks the fewest;
 * undefined if there are none.
 */
export function numberedShards(names: Iterable<string>): NumberedShards | undefined {
  const there = new Set(names)
  const totals = new Set<number>()
  for (const name of there) {
    const [, total] = /^model-\d{5}-of-(\d{5})\.safetensors$/.exec(name) ?? []
    if (Number(total) > 0) totals.add(Number(total))
  }
  const series = [...totals].map((total) => {
    const all = Array.from(
      { length: total },
      (_, i) => `model-${fiveDigits(i + 1)}-of-${fiveDigits(total)}.safetensors`,
    )
    return {
      present: all.filter((name) => there.has(name)),
      missing: all.filter((name) => !there.has(name)),
    }
  })
  return series.sort((a, b) => a.missing.length - b.missing.length)[0]
}

const fiveDigits = (number: number): string => String(number).padStart(5, '0')

const INDEX_LIMIT = 100_000_000

/**
 * Reads which shard contains which tensors.
 * @throws FileFormatError when the index is malformed or refers to anything but plain files in the same folder
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
  // Only plain names: no path separator of any platform, drive letter, "..", or control character.
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
