/** Files that an untrusted folder may refer to. */
import { existsSync, realpath as resolveLinks } from 'node:fs'
import { basename, dirname, join, sep } from 'node:path'
import { promisify } from 'node:util'
import { FileFormatError } from '../core/errors.js'

/** By Node.js itself: what Windows has for it fails on some drives. */
const realpath = promisify(resolveLinks)

/**
 * The path of a file of a model or adapter folder. Links may lead inside the folder or, as in the Hugging Face cache,
 * from `snapshots/<revision>` to `blobs` beside it or above; anything else would let a downloaded folder read other
 * files.
 * @throws FileFormatError when the file is missing, or a link that leads elsewhere
 */
export async function fileInside(folder: string, name: string): Promise<string> {
  const path = join(folder, name)
  const [root, real] = await Promise.all([realpath(folder), realpath(path)]).catch((cause) => {
    throw new FileFormatError(`${path} is missing or a broken link; download it again`, { path }, { cause })
  })
  const roots = [root, ...blobsOf(root)]
  if (!roots.some((allowed) => real.startsWith(allowed + sep))) {
    throw new FileFormatError(`${path} is a link out of its folder, to ${real}; put the file itself there`, {
      path,
      real,
    })
  }
  // The link itself is kept as the name: the cache's blobs are named by hash.
  return path
}

/** Target folder of the links in a snapshot, or in a folder of one; undefined for other folders. */
function blobsOf(folder: string): string[] {
  const parent = dirname(folder)
  if (parent === folder) return []
  if (basename(parent) !== 'snapshots') return blobsOf(parent)
  const repo = dirname(parent)
  // Newer caches keep large blobs once for all repositories.
  const shared = basename(repo).startsWith('models--') ? [join(dirname(repo), 'blobs')] : []
  return [join(repo, 'blobs'), ...shared]
}

/** The same, or undefined where there is no such file. */
export async function fileInsideIfAny(folder: string, name: string): Promise<string | undefined> {
  return existsSync(join(folder, name)) ? fileInside(folder, name) : undefined
}
