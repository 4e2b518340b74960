/**
 * Ranks that are killed or stopped at random moments, by seeds: no checkpoint that was told is lost, nothing hangs, and
 * the run resumes to the bits of one that was left alone. `npm run test:kills` takes all seeds, the sweeps a few.
 */
import { createHash } from 'node:crypto'
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { expect, test } from 'vitest'
import { type Ended, lowrank } from '../lib/cli/lowrank.js'
import { needs } from '../needs.js'
import { only, parseEvents } from './events.js'
import { MPI_FAMILIES, mpirun } from './mpi.js'
import { type Project, project } from './project.js'

const TIMEOUT = 240_000
const STEPS = 30
const SAVED = 3
const RANK = '$PMI_RANK$OMPI_COMM_WORLD_RANK'
const settings = { max_steps: STEPS, save_steps: SAVED, save_total_limit: 2, num_train_epochs: 1 }
const threads = { LOWRANK_THREADS: '1', LOWRANK_MPI_TIMEOUT: '5' }
const adapterOf = ({ at }: Project) => readFileSync(at('out', 'adapter_model.safetensors')).toString('base64')

/** Where and when a rank gets its signal. */
function drawn(seed: number) {
  let count = 0
  const number = (below: number) =>
    createHash('sha256').update(`${seed} ${count++}`).digest().readUInt32LE() % below
  const ranks = 2 + number(3)
  const family = MPI_FAMILIES[number(MPI_FAMILIES.length)] as (typeof MPI_FAMILIES)[number]
  // One in five gets it while it starts, by the clock; the others around a checkpoint.
  const starting = number(5) === 0
  return {
    family,
    ranks,
    victim: number(ranks),
    starting,
    step: SAVED * (1 + number(STEPS / SAVED - 3)),
    wait: number(1200),
  }
}

/** Runs on ranks, and sends a signal to one of them if asked. */
async function run(
  made: Project,
  { family, ranks, victim, starting, step, wait }: ReturnType<typeof drawn>,
  signal?: NodeJS.Signals,
  args: string[] = [],
): Promise<Ended & { seconds: number; pids: number[] }> {
  const { wrap, env } = mpirun(family)
  const { at } = made
  // Launchers tell of a killed process on stdout.
  const json = signal === 'SIGKILL' ? [] : ['--json']
  const pidOf = (rank: number) => Number(readFileSync(at(`pid.${rank}`), 'utf8'))
  let sent: number | undefined
  const send = async () => {
    sent = 0
    await sleep(starting ? wait : wait / 20)
    while (!existsSync(at(`pid.${victim}`))) await sleep(10)
    sent = performance.now()
    try {
      process.kill(pidOf(victim), signal)
    } catch {
      // The run was over before.
    }
  }
  if (signal !== undefined && starting) void send()
  const ended = await lowrank(['train', made.config, ...json, ...args], {
    wrap: (node, words) =>
      wrap(ranks)('sh', ['-c', `echo $$ > pid.${RANK}; exec "$@"`, 'sh', node, ...words]),
    env: { ...env, ...threads },
    cwd: at(),
    watch: (_, { stderr }) => {
      if (signal !== undefined && sent === undefined && lastSaved(stderr) >= step) void send()
    },
  })
  const pids = Array.from({ length: ranks }, (_, rank) => rank).flatMap((rank) =>
    existsSync(at(`pid.${rank}`)) ? [pidOf(rank)] : [],
  )
  return { ...ended, seconds: sent ? (performance.now() - sent) / 1000 : 0, pids }
}

const alone = new Map<number, Promise<string>>()

/** The adapter of a run that nobody ends. */
function adapterBy(ranks: number): Promise<string> {
  const make = async () => {
    const made = project(settings)
    const { code, stderr } = await run(made, { ...drawn(0), family: 'MPICH', ranks })
    expect({ code, stderr }).toMatchObject({ code: 0 })
    return adapterOf(made)
  }
  const found = alone.get(ranks) ?? make()
  alone.set(ranks, found)
  return found
}

/** Goes on from the newest checkpoint to the end, and holds the adapter to that of a run without a signal. */
async function goesOn(made: Project, place: ReturnType<typeof drawn>, stderr: string): Promise<void> {
  const told = lastSaved(stderr)
  const saved = existsSync(made.at('out'))
    ? readdirSync(made.at('out')).filter((name) => /^checkpoint-\d+$/.test(name))
    : []
  if (told > 0) expect(saved).not.toEqual([])
  const again = await run(made, place, undefined, saved.length > 0 ? ['--resume'] : ['--force'])
  expect({ code: again.code, stderr: again.stderr }).toMatchObject({ code: 0 })
  const steps = only(parseEvents(again.stdout), 'step').map(({ step }) => step)
  expect(steps[0]).toBeGreaterThan(told)
  expect(steps.at(-1)).toBe(STEPS)
  expect(adapterOf(made)).toBe(await adapterBy(place.ranks))
}

/** Step of the last checkpoint that was told. */
function lastSaved(stderr: string): number {
  return Number([...stderr.matchAll(/saved \S*checkpoint-(\d+)\n/g)].at(-1)?.[1] ?? 0)
}

const ALL = process.env.LOWRANK_KILLS === 'all'
const seeds = (all: number, few: number) => Array.from({ length: ALL ? all : few }, (_, seed) => seed)

test.each(seeds(40, 4))(
  'a rank is killed, by seed %i',
  async (seed) => {
    needs('SIGSTOP')
    const made = project(settings)
    const place = drawn(seed)
    const killed = await run(made, place, 'SIGKILL')
    expect(killed.seconds).toBeLessThan(30)
    for (const pid of killed.pids)
      await expect.poll(() => existsSync(`/proc/${pid}`), { timeout: 10_000 }).toBe(false)
    // It may have been over.
    if (killed.code === 0) return
    await goesOn(made, place, killed.stderr)
  },
  TIMEOUT,
)

test.each(seeds(6, 1))(
  'a rank is asked to stop, by seed %i',
  async (seed) => {
    needs('SIGSTOP')
    const made = project(settings)
    const place = { ...drawn(100 + seed), starting: false }
    const stopped = await run(made, place, 'SIGTERM')
    expect(stopped.code).toBe(130)
    const events = parseEvents(stopped.stdout)
    expect(only(events, 'checkpoint').at(-1)?.step).toBe(only(events, 'step').at(-1)?.step)
    await goesOn(made, place, stopped.stderr)
  },
  TIMEOUT,
)
