/** Restricts which files an untrusted folder may refer to. */
import { existsSync, realpath as resolveLinks } from 'node:fs'
import { basename, dirname, join, sep } from 'node:path'
import { promisify } from 'node:util'
import { FileFormatError } from '../core/errors.js'

/** Node's JavaScript implementation, since the native one fails on some Windows drives. */
const realpath = promisify(resolveLinks)

/**
 * The path of a file in a model or adapter folder. Links may point inside the folder or, as in the Hugging Face cache,
 * from `snapshots/<revision>` to a `blobs` folder next to or above it; any other target would let a downloaded folder
 * read unrelated files.
 * @throws FileFormatError when the file is missing, or a link that points elsewhere
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
  // Return the link rather than its target, since the cache's blobs are named by hash.
  return path
}

/** Folders that links in a snapshot, or in its subfolders, may point to; empty for other folders. */
function blobsOf(folder: string): string[] {
  const parent = dirname(folder)
  if (parent === folder) return []
  if (basename(parent) !== 'snapshots') return blobsOf(parent)
  const repo = dirname(parent)
  // Newer caches share large blobs between all repositories.
  const shared = basename(repo).startsWith('models--') ? [join(dirname(repo), 'blobs')] : []
  return [join(repo, 'blobs'), ...shared]
}

/** Like `fileInside`, but undefined if the file does not exist. */
export async function fileInsideIfAny(folder: string, name: string): Promise<string | undefined> {
  return existsSync(join(folder, name)) ? fileInside(folder, name) : undefined
}
