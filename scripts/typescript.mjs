// Compiles lib/ twice, to ES modules and to CommonJS, and marks what each output is.
import { spawnSync } from 'node:child_process'
import { chmodSync, existsSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { dirname, join, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'

const root = resolve(dirname(fileURLToPath(import.meta.url)), '..')
const tsc = join(dirname(createRequire(import.meta.url).resolve('typescript/package.json')), 'bin', 'tsc')

for (const project of ['tsconfig.esm.json', 'tsconfig.cjs.json']) {
  const run = spawnSync(process.execPath, [tsc, '-p', project], { cwd: root, stdio: 'inherit' })
  if (run.status !== 0) process.exit(1)
}
// The package says "type": "module"; this is the nearer word for the files beside it.
writeFileSync(join(root, 'dist', 'cjs', 'package.json'), '{ "type": "commonjs" }\n')
const cli = join(root, 'dist', 'esm', 'cli', 'main.js')
if (existsSync(cli)) chmodSync(cli, 0o755)
