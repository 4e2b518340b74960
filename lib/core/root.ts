/** Location of this package on disk. */
import { readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { here } from './here.cjs'

function findRoot(folder: string): string {
  if (packageName(folder) === 'lowrank') return folder
  const parent = dirname(folder)
  if (parent === folder) throw new Error(`lowrank: no package root above ${here}`)
  return findRoot(parent)
}

/** Only package.json is in the root of every copy; electron-builder omits binding.gyp. */
function packageName(folder: string): unknown {
  try {
    return (JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8')) as { name?: unknown }).name
  } catch {
    return undefined
  }
}

/** Folder that contains lowrank's package.json, whether run from the sources, from dist/, or from node_modules. */
export const packageRoot: string = findRoot(here)
