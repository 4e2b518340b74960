// Lays out/card: what a machine with an NVIDIA card needs to test and time everything there, without Node and a network. Then,
// on that machine: out/card/card.sh RESULTS
//
//   node scripts/cuda/bundle.mjs [--targets sm_80,...] [--try]
//
// --targets: kernels for these kinds of cards; default A100, H100, and PTX for the others. They are not compressed, since no Node
// inflates them there. --try: then runs card.sh on the stand-in driver, with small shapes.
// Exits 3 where the compilers cannot be had.
import { spawnSync } from 'node:child_process'
import { copyFileSync, mkdirSync, readdirSync, rmSync, statSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { parseArgs } from 'node:util'

const root = resolve(import.meta.dirname, '../..')
const out = join(root, 'out', 'card')
/** What can be carried to such a machine with room to spare. */
const LIMIT_BYTES = 60e6

const { values } = parseArgs({
  options: {
    targets: { type: 'string', default: 'sm_80,sm_90' },
    try: { type: 'boolean' },
  },
})

function run(command, args, env = {}) {
  const { status } = spawnSync(command, args, {
    cwd: root,
    stdio: 'inherit',
    env: { ...process.env, ...env },
  })
  if (status !== 0) process.exit(status ?? 1)
}

rmSync(out, { recursive: true, force: true })
mkdirSync(out, { recursive: true })
const kernels = join(out, 'kernels')
run(process.execPath, ['scripts/cuda.mjs', 'build', '--out', kernels, '--targets', values.targets])
run(process.execPath, [
  'scripts/cuda/pack.mjs',
  '--from',
  kernels,
  '--raw',
  '--out',
  join(out, 'lowrank.cuda'),
])
rmSync(kernels, { recursive: true })
run(process.execPath, ['scripts/native.mjs', 'cuda-tests'])
run('cmake', ['--build', 'out/release', '--target', 'lowrank_card_bench', '--parallel', '2'])
for (const name of ['lowrank_cuda_tests', 'lowrank_card_bench'])
  run('strip', ['-o', join(out, name), join(root, 'out', 'release', name)])
for (const name of ['card.sh', 'peers.py'])
  copyFileSync(join(root, 'benchmarks', 'cuda', name), join(out, name))

const bytes = readdirSync(out).reduce((sum, name) => sum + statSync(join(out, name)).size, 0)
console.log(`out/card: ${(bytes / 1e6).toFixed(1)} MB`)
if (bytes > LIMIT_BYTES) throw new Error(`out/card has ${bytes} bytes, expected at most ${LIMIT_BYTES}`)

if (values.try)
  run(join(out, 'card.sh'), [join(root, 'out', 'card-results')], {
    LOWRANK_LIBCUDA: join(root, 'out', 'release', 'liblowrank_cuda_standin.so'),
    LOWRANK_CARD_SMALL: '1',
  })
