/** Location of this package on disk. */
import { readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { UnsupportedError } from './errors.js'
import { here } from './here.cjs'

function findRoot(folder: string): string {
  if (folder === '') throw bundled()
  if (packageName(folder) === 'lowrank') return folder
  const parent = dirname(folder)
  if (parent === folder) throw bundled()
  return findRoot(parent)
}

/** Bundlers copy code, but not the addon, the programs, and the pages that the code finds beside itself. */
function bundled(): UnsupportedError {
  return new UnsupportedError(
    `lowrank was bundled into another program${here && `, in ${here}`}, where it finds neither its addon nor its other files. Mark it as external, so that it is loaded from node_modules: --external:lowrank for esbuild, externals for webpack, ssr.external for Vite, serverExternalPackages for Next.js; see node_modules/lowrank/docs/bundlers.md.`,
    { folder: here },
  )
}

/** Only package.json is in the root of every copy; electron-builder omits binding.gyp. */
function packageName(folder: string): unknown {
  try {
    return (JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8')) as { name?: unknown }).name
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code !== 'ERR_ACCESS_DENIED') return undefined
    throw new UnsupportedError(
      `the permissions of Node.js forbid reading ${join(folder, 'package.json')}; allow the folder of lowrank with --allow-fs-read=${folder}.`,
      { folder },
      { cause },
    )
  }
}

/** Folder that contains lowrank's package.json, whether run from the sources, from dist/, or from node_modules. */
export const packageRoot: string = findRoot(here)

/** The version of the package. */
export function packageVersion(): string {
  const text = readFileSync(join(packageRoot, 'package.json'), 'utf8')
  return (JSON.parse(text) as { version: string }).version
}
