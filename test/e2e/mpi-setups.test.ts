/** Set-ups that do not fit: ranks without work, and ranks of another version. None waits forever. */
import { execFileSync } from 'node:child_process'
import { cpSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { expect, test } from 'vitest'
import { lowrank } from '../lib/cli/lowrank.js'
import { numbersOf, parseEvents } from './events.js'
import { MPI_FAMILIES, mpirun } from './mpi.js'
import { project } from './project.js'

const TIMEOUT = 120_000
const threads = { LOWRANK_THREADS: '1' }
const root = resolve(import.meta.dirname, '../..')

test.each(MPI_FAMILIES)(
  '%s: ranks without a micro-batch make the steps of the others',
  async (family) => {
    const { wrap, env } = mpirun(family)
    // One micro-batch in an epoch, for four ranks.
    const { config, at } = project({ max_steps: 3, eval_dataset: 'dev.jsonl', eval_steps: 1 }, 2)
    const run = (folder: string) => ['train', config, '--json', '--set', `output_dir=${at(folder)}`]
    const together = await lowrank(run('four'), { wrap: wrap(4), env: { ...env, ...threads } })
    expect(together).toMatchObject({ code: 0 })
    const alone = await lowrank(run('one'), { env: threads })
    const [four, one] = [together, alone].map(({ stdout }) => numbersOf(parseEvents(stdout)))
    expect(one).toHaveLength(3)
    expect(four).toEqual(one)
  },
  TIMEOUT,
)

test(
  'a rank of another version is refused, by name and once',
  async () => {
    const { config, at } = project()
    const { wrap, env } = mpirun('MPICH')
    const other = at('other')
    mkdirSync(other)
    cpSync(join(root, 'dist'), join(other, 'dist'), { recursive: true })
    symlinkSync(join(root, 'node_modules'), join(other, 'node_modules'))
    const about = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'))
    writeFileSync(join(other, 'package.json'), JSON.stringify({ ...about, version: '9.9.9' }))
    const script = 'node=$1; main=$2; shift 2; [ "$PMI_RANK" = 1 ] && main=$OTHER; exec "$node" "$main" "$@"'
    const refused = await lowrank(['train', config], {
      wrap: (node, args) => wrap(2)('sh', ['-c', script, 'sh', node, ...args]),
      env: { ...env, ...threads, OTHER: join(other, 'dist/esm/cli/main.js') },
    })
    expect(refused.code).not.toBe(0)
    expect(refused.stderr.match(/error: /g)).toHaveLength(1)
    expect(refused.stderr).toMatch(
      /rank 1 on \S+ has another version of lowrank than rank 0 on .*: 9\.9\.9, not/,
    )
  },
  TIMEOUT,
)

test(
  'ranks end though their library never closes',
  async () => {
    const { wrap, env } = mpirun('MPICH')
    const { config, at } = project({ max_steps: 2 })
    const library = at('libstuck.so')
    // The functions of MPICH, apart from one that never returns.
    writeFileSync(at('stuck.c'), '#include <unistd.h>\nint MPI_Finalize(void) { for (;;) pause(); }\n')
    const link = ['-Wl,--no-as-needed', '-l:libmpich.so.12']
    execFileSync('cc', ['-shared', '-fPIC', '-o', library, at('stuck.c'), ...link])
    const ended = await lowrank(['train', config], {
      wrap: wrap(2),
      env: { ...env, ...threads, LOWRANK_MPI: library },
    })
    expect(ended).toMatchObject({ code: 0 })
    expect(ended.stdout + ended.stderr).toContain('The adapter is in')
  },
  TIMEOUT,
)
