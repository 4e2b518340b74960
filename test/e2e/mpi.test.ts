/** Runs on several ranks of MPI: the same numbers as one process, one voice, and an end for all. */
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { expect, test } from 'vitest'
import { lowrank } from '../lib/cli/lowrank.js'
import { needs } from '../needs.js'
import { numbersOf, only, parseEvents } from './events.js'
import { LOST_RANKS, MPI_FAMILIES, type MpiFamily, mpirun } from './mpi.js'
import { project } from './project.js'

const TIMEOUT = 120_000
const isRunning = (pid: number) => {
  try {
    return process.kill(pid, 0)
  } catch {
    return false
  }
}
const newestCheckpoint = (folder: string) =>
  readdirSync(folder)
    .filter((name) => /^checkpoint-\d+$/.test(name))
    .sort((a, b) => Number(b.slice(11)) - Number(a.slice(11)))[0] as string
const adapterOf = (folder: string) => readFileSync(`${folder}/adapter_model.safetensors`).toString('base64')

/** @param args of `lowrank train` after the config */
async function trainOn(family: MpiFamily, ranks: number, config: string, args: string[] = [], env = {}) {
  const { wrap, env: own } = mpirun(family)
  const threads = { LOWRANK_THREADS: '1' }
  return lowrank(['train', config, '--json', ...args], {
    wrap: wrap(ranks),
    env: { ...own, ...threads, ...env },
  })
}

const set = (key: string, value: unknown) => ['--set', `${key}=${value}`]

test.each(MPI_FAMILIES)(
  '%s: two ranks make the steps of one process with twice the accumulation, and tell them once',
  async (family) => {
    const { config, at } = project({ eval_dataset: 'dev.jsonl', eval_steps: 6, save_steps: 6 })
    const together = await trainOn(family, 2, config, set('output_dir', at('two')))
    expect(together).toMatchObject({ code: 0 })
    expect(together.stderr).toContain('Training on 2 ranks')
    const alone = await lowrank(
      ['train', config, '--json', ...set('output_dir', at('one')), ...set('gradient_accumulation_steps', 2)],
      { env: { LOWRANK_THREADS: '1' } },
    )
    const [two, one] = [together, alone].map(({ stdout }) => parseEvents(stdout)) as [[], []]
    // Two numbers have one sum, whatever their order.
    expect(numbersOf(two)).toEqual(numbersOf(one))
    expect(only(two, 'eval').map(({ loss }) => loss)).toEqual(only(one, 'eval').map(({ loss }) => loss))
    expect(adapterOf(at('two'))).toBe(adapterOf(at('one')))
    expect(existsSync(at('two', 'checkpoint-6'))).toBe(true)
  },
  TIMEOUT,
)

test(
  'three ranks give the same bits twice, those of one process up to rounding, and two go on as three',
  async () => {
    const family = 'MPICH'
    const { config, at } = project({ save_steps: 6 })
    const first = await trainOn(family, 3, config, set('output_dir', at('first')))
    const second = await trainOn(family, 3, config, set('output_dir', at('second')))
    expect(first).toMatchObject({ code: 0 })
    expect(adapterOf(at('first'))).toBe(adapterOf(at('second')))
    const steps = numbersOf(parseEvents(first.stdout))
    expect(numbersOf(parseEvents(second.stdout))).toEqual(steps)

    const alone = await lowrank(
      ['train', config, '--json', ...set('output_dir', at('one')), ...set('gradient_accumulation_steps', 3)],
      { env: { LOWRANK_THREADS: '1' } },
    )
    for (const [i, { loss, grad_norm }] of numbersOf(parseEvents(alone.stdout)).entries()) {
      expect(Math.abs((steps[i]?.loss as number) / (loss as number) - 1)).toBeLessThan(1e-4)
      expect(Math.abs((steps[i]?.grad_norm as number) / (grad_norm as number) - 1)).toBeLessThan(1e-3)
    }
    const resumed = ['--resume', at('first', 'checkpoint-6'), ...set('output_dir', at('on'))]
    const on = await trainOn(family, 2, config, resumed)
    expect(on).toMatchObject({ code: 0 })
    const rest = numbersOf(parseEvents(on.stdout))
    expect(rest.map(({ step, tokens }) => [step, tokens])).toEqual(
      steps.slice(6).map(({ step, tokens }) => [step, tokens]),
    )
  },
  TIMEOUT,
)

test(
  'ranks that differ are refused at the start, by name and once',
  async () => {
    const { config, at } = project()
    const { wrap, env } = mpirun('MPICH')
    // The second rank reads other rows.
    writeFileSync(at('other.jsonl'), readFileSync(at('train.jsonl'), 'utf8').replace('sky', 'sea'))
    const script = 'd=train.jsonl; [ "$PMI_RANK" = 1 ] && d=other.jsonl; exec "$@" --set dataset=$d'
    const refused = await lowrank(['train', config], {
      wrap: (node, args) => wrap(2)('sh', ['-c', script, 'sh', node, ...args]),
      env: { ...env, LOWRANK_THREADS: '1' },
    })
    expect(refused.code).not.toBe(0)
    expect(refused.stderr.match(/error: /g)).toHaveLength(1)
    expect(refused.stderr).toMatch(/rank 1 on \S+ has another training data than rank 0 on/)
    expect(existsSync(at('out'))).toBe(false)
  },
  TIMEOUT,
)

test(
  'a rank that fails ends all, by its name',
  async () => {
    const { config } = project()
    const { wrap, env } = mpirun('MPICH')
    const script = 'd=train.jsonl; [ "$PMI_RANK" = 1 ] && d=missing.jsonl; exec "$@" --set dataset=$d'
    const failed = await lowrank(['train', config], {
      wrap: (node, args) => wrap(2)('sh', ['-c', script, 'sh', node, ...args]),
      env: { ...env, LOWRANK_THREADS: '1' },
    })
    expect(failed.code).not.toBe(0)
    expect(failed.stderr.match(/error: /g)).toHaveLength(1)
    expect(failed.stderr).toMatch(/error: rank 1 on \S+: .*missing\.jsonl/)
  },
  TIMEOUT,
)

test(
  'ranks with another output folder are refused with one error, before anything is loaded',
  async () => {
    const { config, at } = project()
    const { wrap, env } = mpirun('MPICH')
    const script = 'o=out; [ "$PMI_RANK" = 1 ] && o=other; exec "$@" --set output_dir=$o'
    const failed = await lowrank(['train', config], {
      wrap: (node, args) => wrap(2)('sh', ['-c', script, 'sh', node, ...args]),
      env: { ...env, LOWRANK_THREADS: '1' },
      cwd: at(),
    })
    expect(failed.code).not.toBe(0)
    expect(failed.stderr.match(/error: /g)).toHaveLength(1)
    expect(failed.stderr).toMatch(/error: rank 1 on \S+ has another output_dir than rank 0/)
    expect(failed.stderr).not.toContain('Loading')
    expect(existsSync(at('out')) || existsSync(at('other'))).toBe(false)
  },
  TIMEOUT,
)

test(
  'a SIGTERM of one rank stops all after the same step, with a checkpoint',
  async () => {
    const { config, at } = project({ max_steps: 100_000, num_train_epochs: 1 })
    const { wrap, env } = mpirun('MPICH')
    const script = 'echo $$ > pid.$PMI_RANK; exec "$@"'
    let pid: number | undefined
    const stopped = await lowrank(['train', config, '--json'], {
      wrap: (node, args) => wrap(2)('sh', ['-c', script, 'sh', node, ...args]),
      env: { ...env, LOWRANK_THREADS: '1' },
      cwd: at(),
      watch: (_, { stdout }) => {
        if (pid !== undefined || !stdout.includes('"step":3,')) return
        pid = Number(readFileSync(at('pid.1'), 'utf8'))
        process.kill(pid, 'SIGTERM')
      },
    })
    const events = parseEvents(stopped.stdout)
    const last = only(events, 'step').at(-1)?.step
    expect(only(events, 'checkpoint').at(-1)).toMatchObject({ step: last })
    expect(stopped.code).toBe(130)
  },
  TIMEOUT,
)

test.each(LOST_RANKS)(
  'a rank that gets a %s ends the job of %s, and its last checkpoint is whole',
  async (signal, family) => {
    needs('SIGSTOP')
    const { config, at } = project({
      max_steps: 100_000,
      num_train_epochs: 1,
      save_steps: 5,
      save_total_limit: 2,
    })
    const { wrap, env } = mpirun(family)
    const script = 'echo $$ > pid.$PMI_RANK$OMPI_COMM_WORLD_RANK; exec "$@"'
    let pid: number | undefined
    let sent = 0
    const ended = await lowrank(['train', config], {
      wrap: (node, args) => wrap(2)('sh', ['-c', script, 'sh', node, ...args]),
      env: { ...env, LOWRANK_THREADS: '1', LOWRANK_MPI_TIMEOUT: '2' },
      cwd: at(),
      watch: (_, { stderr }) => {
        if (pid !== undefined || !stderr.includes('saved')) return
        pid = Number(readFileSync(at('pid.1'), 'utf8'))
        process.kill(pid, signal)
        sent = performance.now()
      },
    })
    expect(performance.now() - sent).toBeLessThan(30_000)
    expect(ended.code).not.toBe(0)
    if (signal === 'SIGSTOP') expect(ended.stderr).toMatch(/rank 1 on \S+ has not answered for 2 s/)
    await expect.poll(() => isRunning(pid as number), { timeout: 10_000 }).toBe(false)
    const more = await lowrank(['inspect', at('out', newestCheckpoint(at('out'))), '--json'])
    expect(more).toMatchObject({ code: 0 })
  },
  TIMEOUT,
)

test(
  'functions of the C library are not rewritten while threads run them',
  async () => {
    const { config, at } = project({ max_steps: 1 })
    // UCX tells of each function that it rewrites.
    const said = { UCX_MEM_LOG_LEVEL: 'debug' }
    const trained = await trainOn('MPICH', 2, config, set('output_dir', at('out')), said)
    expect(`${trained.stdout}${trained.stderr}`).not.toContain('installing bistro hook')
    expect(existsSync(at('out', 'adapter_model.safetensors'))).toBe(true)
  },
  TIMEOUT,
)

test(
  "a closed connection to MPICH's launcher is named once, with the remedy",
  async () => {
    const { config } = project()
    const { wrap, env } = mpirun('MPICH')
    const script = 'eval "exec $PMI_FD>&-"; exec "$@"'
    const refused = await lowrank(['train', config], {
      wrap: (node, args) => wrap(2)('bash', ['-c', script, 'bash', node, ...args]),
      env,
    })
    expect(refused.code).not.toBe(0)
    expect(refused.stderr.match(/error: /g)).toHaveLength(1)
    expect(refused.stderr).toContain('Start node_modules/.bin/lowrank in place of npx lowrank')
  },
  TIMEOUT,
)

test(
  'a launcher without its library is one error, and LOWRANK_MPI=off trains alone',
  async () => {
    const { config, at } = project({ max_steps: 1 })
    const env = { PMI_RANK: '0', PMI_SIZE: '2', LOWRANK_THREADS: '1' }
    const library = at('libmpich.so.12')
    const refused = await lowrank(['train', config], { env: { ...env, LOWRANK_MPI: library } })
    expect(refused.code).toBe(1)
    expect(refused.stderr).toContain('no library that understands it can be opened')
    expect(refused.stderr).toContain(library)
    const alone = await lowrank(['train', config], { env: { ...env, LOWRANK_MPI: 'off' } })
    expect(alone).toMatchObject({ code: 0 })
  },
  TIMEOUT,
)
