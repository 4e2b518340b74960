/**
 * out/prebuilds.json: from which sources each addon of prebuilds/, and the pack of CUDA kernels, was made, so that a release has
 * none of older ones.
 */
import { createHash } from 'node:crypto'
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { dirname, join, relative, resolve } from 'node:path'
import { prebuiltFile } from './targets.mjs'

const root = resolve(import.meta.dirname, '..')
const file = join(root, 'out', 'prebuilds.json')

/** Name of the pack of CUDA kernels among the targets, and its file. */
export const CUDA = 'cuda'
export const packFile = join(root, 'prebuilds', 'lowrank.cuda')

const fileOf = (target) => (target === CUDA ? packFile : prebuiltFile(target))

const digest = (...parts) =>
  parts.reduce((hash, part) => hash.update(part), createHash('sha256')).digest('hex')

/** Digest of all that addons are made of: sources, the pinned compilers, and the version. */
export function sourcesDigest() {
  const { version } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'))
  const sources = readdirSync(join(root, 'native'), { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name))
  const build = ['CMakeLists.txt', 'scripts/compilers.mjs', 'scripts/native.mjs'].map((name) =>
    join(root, name),
  )
  const parts = [...sources, ...build]
    .sort()
    .map((path) => `${relative(root, path)} ${digest(readFileSync(path))}\n`)
  return digest(version, ...parts)
}

function read() {
  return existsSync(file) ? JSON.parse(readFileSync(file, 'utf8')) : {}
}

/** Notes that the addon for a target, or the pack, was made of the sources as they are. */
export function note(target) {
  const record = {
    ...read(),
    [target]: { sources: sourcesDigest(), addon: digest(readFileSync(fileOf(target))) },
  }
  mkdirSync(dirname(file), { recursive: true })
  writeFileSync(file, `${JSON.stringify(record, null, 2)}\n`)
}

/** Reason why the addon for a target, or the pack, may not be published, or undefined. */
export function staleness(target) {
  const noted = read()[target]
  if (!existsSync(fileOf(target))) return 'there is none'
  if (noted?.addon !== digest(readFileSync(fileOf(target)))) return 'it is not the one that was built'
  if (noted.sources !== sourcesDigest()) return 'it was built from other sources'
  return undefined
}
