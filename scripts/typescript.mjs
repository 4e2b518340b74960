// Compiles lib/ twice, to ES modules and to CommonJS, and marks what each output is.
import { spawn } from 'node:child_process'
import { chmodSync, existsSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { dirname, join, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'

const root = resolve(dirname(fileURLToPath(import.meta.url)), '..')
const tsc = join(dirname(createRequire(import.meta.url).resolve('typescript/package.json')), 'bin', 'tsc')

function compile(project) {
  const run = spawn(process.execPath, [tsc, '-p', project], { cwd: root, stdio: ['ignore', 2, 2] })
  return new Promise((done, failed) => run.on('error', failed).on('close', done))
}

const codes = await Promise.all(['tsconfig.esm.json', 'tsconfig.cjs.json'].map(compile))
// The package says "type": "module"; this is the nearer word for the files beside it.
if (existsSync(join(root, 'dist', 'cjs'))) {
  writeFileSync(join(root, 'dist', 'cjs', 'package.json'), '{ "type": "commonjs" }\n')
}
const cli = join(root, 'dist', 'esm', 'cli', 'main.js')
if (existsSync(cli)) chmodSync(cli, 0o755)
process.exitCode = codes.every((code) => code === 0) ? 0 : 1
