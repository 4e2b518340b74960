// Compiles lib/ twice, to ES modules and to CommonJS, marks what each output is, and bundles the programs and the
// scripts of pages. Declarations are written once, with CommonJS: the ES module has theirs.
import { spawn } from 'node:child_process'
import { chmodSync, existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { dirname, join, relative, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import { rolldown } from 'rolldown'

const root = resolve(dirname(fileURLToPath(import.meta.url)), '..')
const tsc = join(dirname(createRequire(import.meta.url).resolve('typescript/package.json')), 'bin', 'tsc')
const esm = join(root, 'dist', 'esm')

/** What Node.js is started with. Read from hundreds of small files, a program starts in twice the time. */
const PROGRAMS = [
  'bench/memory-process',
  'cli/main',
  'compare/child',
  'data/text-worker',
  'native/mpi-child',
  'time/child',
]

/** The dependency that stands in the programs: it would install 91 packages beside it, of which they need none. */
const INSIDE = '@modelcontextprotocol/sdk'

/** What it imports for schemas of other kinds than ours, and never calls here. */
const UNUSED = ['ajv', 'ajv-formats', 'zod-to-json-schema']
const NOTHING = 'export default undefined; export const zodToJsonSchema = undefined'

/** What programs import, by the `exports` of package.json. */
const ENTRIES = ['index', join('ai', 'index')]

/** Scripts and styles of pages, which stand in the page. */
const PAGES = join(root, 'lib', 'report', 'page')

function compile(project) {
  const run = spawn(process.execPath, [tsc, '-p', project], { cwd: root, stdio: ['ignore', 2, 2] })
  return new Promise((done, failed) => run.on('error', failed).on('close', done))
}

/** Writes the programs over tsc's; what they share, and what they load later, goes to dist/esm/chunks/. */
async function bundlePrograms() {
  const bundle = await rolldown({
    cwd: root,
    input: Object.fromEntries(PROGRAMS.map((name) => [name, `lib/${name}.ts`])),
    platform: 'node',
    // Dependencies stay where npm puts them; here.cts tells where the package is by the folder of its file.
    external: (id) =>
      (/^[^./]/.test(id) && !id.startsWith(INSIDE) && !UNUSED.includes(id)) || id.endsWith('/here.cjs'),
    plugins: [
      {
        name: 'unused',
        resolveId: (id) => (UNUSED.includes(id) ? `\0${id}` : null),
        load: (id) => (id.startsWith('\0') && UNUSED.includes(id.slice(1)) ? NOTHING : null),
      },
    ],
    resolve: { extensionAlias: { '.js': ['.ts', '.js'] } },
  })
  const { output } = await bundle.generate({
    chunkFileNames: 'chunks/[name].js',
    // Errors tell their class.
    keepNames: true,
  })
  await bundle.close()
  const inside = output
    .flatMap(({ moduleIds }) => moduleIds)
    .filter((id) => id.includes('node_modules') && !id.includes(`/node_modules/${INSIDE}/`))
  // THIRD-PARTY-NOTICES.md says that there is no other one.
  if (inside.length > 0)
    throw new Error(`the programs have code of dependencies inside: ${inside.join(', ')}`)
  const chunks = join(esm, 'chunks')
  mkdirSync(chunks, { recursive: true })
  for (const { fileName, code } of output) writeChanged(join(esm, fileName), code)
  const made = new Set(output.map(({ fileName }) => fileName))
  for (const name of readdirSync(chunks)) if (!made.has(`chunks/${name}`)) rmSync(join(chunks, name))
}

/** Writes scripts of pages, each with all that it imports, and the styles beside them. */
async function bundlePages() {
  const folder = join(esm, 'report', 'page')
  mkdirSync(folder, { recursive: true })
  const names = readdirSync(PAGES)
  for (const name of names.filter((name) => name.endsWith('-script.ts'))) {
    const bundle = await rolldown({
      cwd: root,
      input: join(PAGES, name),
      platform: 'browser',
      resolve: { extensionAlias: { '.js': ['.ts'] } },
    })
    const { output } = await bundle.generate({ format: 'iife', minify: true })
    await bundle.close()
    writeChanged(join(folder, name.replace(/ts$/, 'js')), output[0].code)
  }
  for (const name of names.filter((name) => name.endsWith('.css')))
    writeChanged(join(folder, name), readFileSync(join(PAGES, name), 'utf8'))
}

/**
 * Declares the ES module by the declarations of CommonJS, which are the same. They could not stand with the ES modules:
 * TypeScript lets ES modules import CommonJS, and not the other way around.
 */
function declareModule() {
  const declared = readdirSync(esm, { recursive: true }).filter((name) => /\.d\.[cm]?ts$/.test(name))
  for (const name of declared) if (!ENTRIES.includes(name.replace(/\.d\.ts$/, ''))) rmSync(join(esm, name))
  for (const name of ENTRIES) {
    const path = join(esm, `${name}.d.ts`)
    const own = relative(dirname(path), join(root, 'dist', 'cjs', `${name}.js`)).replaceAll('\\', '/')
    writeChanged(path, `export * from '${own}'\n`)
  }
}

/** A file that stays as it is can be read meanwhile. */
function writeChanged(path, text) {
  if (!existsSync(path) || readFileSync(path, 'utf8') !== text) writeFileSync(path, text)
}

const codes = await Promise.all(['tsconfig.esm.json', 'tsconfig.cjs.json'].map(compile))
// The package says "type": "module"; this is the nearer word for the files beside it.
if (existsSync(join(root, 'dist', 'cjs'))) {
  writeFileSync(join(root, 'dist', 'cjs', 'package.json'), '{ "type": "commonjs" }\n')
}
declareModule()
await bundlePrograms()
await bundlePages()
chmodSync(join(esm, 'cli', 'main.js'), 0o755)
process.exitCode = codes.every((code) => code === 0) ? 0 : 1
