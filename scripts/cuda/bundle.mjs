// Lays out/card: what a machine with an NVIDIA card needs to test and time everything there, without Node and a network. Then,
// on that machine: out/card/card.sh RESULTS
//
//   node scripts/cuda/bundle.mjs
import { execFileSync } from 'node:child_process'
import { copyFileSync, mkdirSync, readdirSync, rmSync, statSync } from 'node:fs'
import { join, resolve } from 'node:path'

const root = resolve(import.meta.dirname, '../..')
const out = join(root, 'out', 'card')
/** What can be carried to such a machine with room to spare. */
const LIMIT_BYTES = 60e6

const run = (command, ...args) => execFileSync(command, args, { cwd: root, stdio: 'inherit' })

rmSync(out, { recursive: true, force: true })
mkdirSync(out, { recursive: true })
run(process.execPath, 'scripts/native.mjs', 'tests')
run('cmake', '--build', 'out/release', '--target', 'lowrank_card_bench', '--parallel', '2')
run(process.execPath, 'scripts/cuda.mjs', 'build', '--out', 'out/cuda/build')
run(process.execPath, 'scripts/cuda/pack.mjs', '--from', 'out/cuda/build', '--out', join(out, 'lowrank.cuda'))
for (const name of ['lowrank_tests', 'lowrank_card_bench'])
  run('strip', '-o', join(out, name), join(root, 'out', 'release', name))
for (const name of ['card.sh', 'peers.py'])
  copyFileSync(join(root, 'benchmarks', 'cuda', name), join(out, name))

const bytes = readdirSync(out).reduce((sum, name) => sum + statSync(join(out, name)).size, 0)
console.log(`out/card: ${(bytes / 1e6).toFixed(1)} MB`)
if (bytes > LIMIT_BYTES) throw new Error(`out/card has ${bytes} bytes, expected at most ${LIMIT_BYTES}`)
