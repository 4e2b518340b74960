/**
 * Loads a module of the laboratory, which is TypeScript over lib/: it is bundled into out/laboratory, and what it imports of
 * lib/ is the compiled dist/esm. Run `npm run build` first.
 */
import { mkdirSync, renameSync, writeFileSync } from 'node:fs'
import { join, relative, resolve } from 'node:path'
import { pathToFileURL } from 'node:url'
import { rolldown } from 'rolldown'

const root = resolve(import.meta.dirname, '..', '..')
const lib = join(root, 'lib')
const folder = join(root, 'out', 'laboratory')

const compiled = {
  name: 'compiled',
  resolveId(id, importer) {
    if (importer === undefined || !id.startsWith('.')) return null
    const path = resolve(importer, '..', id)
    if (!path.startsWith(lib)) return null
    return { id: pathToFileURL(join(root, 'dist', 'esm', relative(lib, path))).href, external: true }
  },
}

/** @param name path of the module in this folder, without `.ts` */
export async function laboratory(name) {
  const bundle = await rolldown({
    input: join(import.meta.dirname, `${name}.ts`),
    platform: 'node',
    external: /^[^./]/,
    plugins: [compiled],
    resolve: { extensionAlias: { '.js': ['.ts'] } },
  })
  const { output } = await bundle.generate({ dir: folder })
  await bundle.close()
  // Whole at once: figures are made side by side.
  const file = join(folder, `${name.replaceAll('/', '-')}.mjs`)
  mkdirSync(folder, { recursive: true })
  writeFileSync(`${file}.${process.pid}`, output[0].code)
  renameSync(`${file}.${process.pid}`, file)
  return import(pathToFileURL(file).href)
}
