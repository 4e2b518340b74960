/** Where this package lives on disk. */
import { existsSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { here } from './here.cjs'

function findRoot(folder: string): string {
  if (existsSync(join(folder, 'binding.gyp'))) return folder
  const parent = dirname(folder)
  if (parent === folder) throw new Error(`lowrank: no package root above ${here}`)
  return findRoot(parent)
}

/** Folder that holds lowrank's package.json, whether run from the sources, from dist/ or from node_modules. */
export const packageRoot: string = findRoot(here)
