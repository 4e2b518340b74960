/** Lists the models in the Hub cache by their blobs, which are named by content hash. */
import { readdir, readlink, stat } from 'node:fs/promises'
import { basename, join, sep } from 'node:path'
import { HubCache } from './cache.js'
import { type CheckedFiles, type Expected, hasContent } from './check.js'

/** A blob of the cache. */
export interface HubBlob extends Expected {
  /** `owner/name`. */
  repo: string
  path: string
  /** Paths in the repository, in any of its commits. */
  names: string[]
  /** Records of verified blobs. */
  checked: CheckedFiles
}

const HASH = /^(?:[0-9a-f]{40}|[0-9a-f]{64})$/

/** The blobs of all models, grouped by repository. */
export async function listHubBlobs(cacheDir: string): Promise<HubBlob[]> {
  const found: HubBlob[] = []
  for (const folder of (await readdir(cacheDir).catch(() => [])).sort()) {
    const [kind, ...parts] = folder.split('--')
    if (kind !== 'models' || parts.length === 0) continue
    const repo = parts.join('/')
    const { checked } = new HubCache(cacheDir, repo)
    const names = await namesOfBlobs(join(cacheDir, folder, 'snapshots'))
    for (const hash of (await readdir(join(cacheDir, folder, 'blobs')).catch(() => [])).sort()) {
      const path = join(cacheDir, folder, 'blobs', hash)
      const stats = HASH.test(hash) ? await stat(path).catch(() => undefined) : undefined
      if (stats?.isFile())
        found.push({ repo, path, hash, size: stats.size, names: [...(names.get(hash) ?? [])], checked })
    }
  }
  return found
}

/** Reads and verifies a whole blob. A damaged one is no longer used, even if it was verified earlier. */
export async function isWhole({ path, hash, size, checked }: HubBlob): Promise<boolean> {
  const right = await hasContent(path, { hash, size })
  await (right ? checked.record(path, { hash, size }) : checked.forget({ hash, size }))
  return right
}

/** Maps each hash to the paths that link to it. */
async function namesOfBlobs(snapshots: string): Promise<Map<string, Set<string>>> {
  const names = new Map<string, Set<string>>()
  for (const commit of await readdir(snapshots).catch(() => []))
    for (const name of await readdir(join(snapshots, commit), { recursive: true }).catch(() => [])) {
      const target = await readlink(join(snapshots, commit, name)).catch(() => undefined)
      if (target === undefined) continue
      const hash = basename(target)
      names.set(hash, (names.get(hash) ?? new Set()).add(name.split(sep).join('/')))
    }
  return names
}
