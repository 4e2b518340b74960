/**
 * Where this package lives on disk. A `.cts` file because only CommonJS has `__dirname`, and both outputs,
 * ESM and CommonJS, may import a CommonJS file.
 */
import { existsSync } from 'node:fs'
import { dirname, join } from 'node:path'

function findRoot(folder: string): string {
  if (existsSync(join(folder, 'binding.gyp'))) return folder
  const parent = dirname(folder)
  if (parent === folder) throw new Error(`lowrank: no package root above ${__dirname}`)
  return findRoot(parent)
}

/** Folder that holds lowrank's package.json, whether run from the sources, from dist/ or from node_modules. */
export const packageRoot: string = findRoot(__dirname)
