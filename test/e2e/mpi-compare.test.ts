/** Compares whose trainings ranks share: the results of one process, and one end for all. */
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import type { CompareResults } from '../../lib/compare/results.js'
import { readResults, writeResults } from '../../lib/compare/results-file.js'
import { jsonLines, lowrank, type RunOptions } from '../lib/cli/lowrank.js'
import { resealed } from '../lib/compare/resealed.js'
import { timeless } from '../lib/compare/timeless.js'
import { needs } from '../needs.js'
import { LOST_RANKS, type MpiFamily, mpirun } from './mpi.js'
import { type Project, project } from './project.js'
import { chats } from './tiny-model.js'

const TIMEOUT = 240_000
const threads = { LOWRANK_THREADS: '1' }
const SMALL = ['--strategies', 'lora-fa', '--no-controls', '--seeds', '2', '--test-rows', '3']
const settings = {
  ...{ strategy: { name: 'lora', r: 2 }, max_steps: 3, eval_dataset: 'test.jsonl', packing: false },
}
/** A project with test rows that are not among its training rows. */
function compared(own: Record<string, unknown>): Project {
  const made = project(own)
  writeFileSync(made.at('test.jsonl'), chats(8, 40))
  return made
}

/** Trainings of about a second. */
const slow = { ...settings, max_steps: 60 }

/** @param script of a shell around each rank; `"$@"` is the command */
function compareOn(
  family: MpiFamily,
  ranks: number,
  { config, at }: Project,
  args: string[],
  { script = 'exec "$@"', env, ...options }: RunOptions & { script?: string } = {},
) {
  const { wrap, env: own } = mpirun(family)
  return lowrank(['compare', config, ...SMALL, ...args], {
    wrap: (node, words) => wrap(ranks)('sh', ['-c', script, 'sh', node, ...words]),
    env: { ...own, ...threads, ...env },
    cwd: at(),
    ...options,
  })
}

/** The results, apart from times, which are the same on any number of ranks. */
const resultsOf = async (folder: string) => {
  const results = await readResults(folder)
  return { ...(timeless(results) as CompareResults), hashes: hashesOf(results) }
}

const hashesOf = ({ entries }: CompareResults) =>
  entries.flatMap(({ cells }) => cells.map(({ hash }) => hash))

/** The tables of quality, without those of time. */
const qualityOf = (stdout: string) => stdout.split(/^strategy +trained/m)[0]

test(
  'two and three ranks have the results of one process and of jobs, and tell them once',
  async () => {
    const made = compared(settings)
    const { config, at } = made
    const output = (name: string) => ['--output', at(name)]
    const alone = await lowrank(['compare', config, ...SMALL, ...output('one')], { env: threads })
    expect(alone).toMatchObject({ code: 0 })
    const one = await resultsOf(at('one'))
    await lowrank(['compare', config, ...SMALL, ...output('jobs'), '--jobs', '2'], { env: threads })
    expect(await resultsOf(at('jobs'))).toEqual(one)
    for (const [ranks, family] of [
      [2, 'Open MPI'],
      [3, 'MPICH'],
    ] as const) {
      const folder = `ranks-${ranks}`
      const together = await compareOn(family, ranks, made, output(folder))
      expect(together.code, together.stderr).toBe(0)
      expect(qualityOf(together.stdout)).toBe(qualityOf(alone.stdout))
      expect(together.stderr).toContain(`Comparing on ${ranks} ranks`)
      expect(together.stderr).toContain(`with ${ranks} side by side`)
      expect(await resultsOf(at(folder))).toEqual(one)
      expect(existsSync(at(folder, 'compare.html'))).toBe(true)
    }
    const again = await compareOn('MPICH', 2, made, [...output('one'), '--resume'])
    expect(again).toMatchObject({ code: 0, stdout: alone.stdout })
  },
  TIMEOUT,
)

const RECORDED = 'echo $$ > pid.$PMI_RANK$OMPI_COMM_WORLD_RANK; exec "$@"'

/** Finished search runs in the output folder of a compare. */
function rungsIn(folder: string): number {
  const file = join(folder, 'results.json')
  if (!existsSync(file)) return 0
  const { entries } = JSON.parse(readFileSync(file, 'utf8')) as CompareResults
  return entries.flatMap(({ searches }) =>
    searches.flatMap(({ rates }) => rates.flatMap(({ rungs }) => rungs)),
  ).length
}

/** Sends a signal to rank 1 of a RECORDED job as soon as so many search runs are finished. */
function signalRankOne({ at }: Project, signal: NodeJS.Signals, after: number): { sent: number } {
  const told = { sent: 0 }
  const timer = setInterval(() => {
    if (rungsIn(at('out-compare')) < after) return
    clearInterval(timer)
    told.sent = performance.now()
    process.kill(Number(readFileSync(at('pid.1'), 'utf8')), signal)
  }, 20).unref()
  return told
}

test(
  'a SIGTERM of one rank stops all of them, and another number of them goes on to the same results',
  async () => {
    const made = compared(slow)
    const { config, at } = made
    const whole = await lowrank(['compare', config, ...SMALL, '--output', at('whole')], { env: threads })
    expect(whole).toMatchObject({ code: 0 })
    signalRankOne(made, 'SIGTERM', 2)
    const stopped = await compareOn('MPICH', 2, made, ['--json'], { script: RECORDED })
    expect(stopped.code).toBe(130)
    const command = `npx lowrank compare ${config} --strategies lora-fa --seeds 2 --no-controls --test-rows 3 --resume`
    expect(jsonLines(stopped.stdout).at(-1)).toMatchObject({
      ...{ event: 'error', code: 'INTERRUPTED', details: { command } },
      message: `stopped; finished runs are kept. Continue with:\n  ${command}`,
    })
    expect(stopped.stderr.match(/interrupted: /g)).toHaveLength(1)
    const told = stopped.stdout.split('"event":"rung"').length - 1
    expect(rungsIn(at('out-compare'))).toBe(told)

    const resumed = await compareOn('MPICH', 3, made, ['--json', '--resume'])
    expect(resumed).toMatchObject({ code: 0 })
    expect(await resultsOf(at('out-compare'))).toEqual(await resultsOf(at('whole')))
  },
  TIMEOUT,
)

test.each(LOST_RANKS)(
  'a rank that gets a %s ends the job of %s, and finished trainings are kept',
  async (signal, family) => {
    needs('SIGSTOP')
    const made = compared(slow)
    const { at } = made
    const told = signalRankOne(made, signal, 2)
    const env = { LOWRANK_MPI_TIMEOUT: '2' }
    const ended = await compareOn(family, 2, made, [], { script: RECORDED, env })
    expect(told.sent).toBeGreaterThan(0)
    expect(performance.now() - told.sent).toBeLessThan(30_000)
    expect(ended.code).not.toBe(0)
    if (signal === 'SIGSTOP') expect(ended.stderr).toMatch(/rank 1 on \S+ has not answered for 2 s/)
    await readResults(at('out-compare'))
    expect(rungsIn(at('out-compare'))).toBeGreaterThan(1)
    const resumed = await lowrank(['compare', made.config, ...SMALL, '--resume'], { env: threads })
    expect(resumed).toMatchObject({ code: 0 })
  },
  TIMEOUT,
)

test.each([
  ['data', '--set dataset=other.jsonl', /rank 1 on \S+ has another training data than rank 0 on/],
  ['steps', '--set max_steps=4', /rank 1 on \S+ has another max_steps than rank 0 on \S+: 4, not 3/],
] as const)(
  'ranks with other %s are refused at the start, by name and once',
  async (_, words, message) => {
    const made = compared(settings)
    const { at } = made
    writeFileSync(at('other.jsonl'), readFileSync(at('train.jsonl'), 'utf8').replace('sky', 'sea'))
    const script = `[ "$PMI_RANK" = 1 ] && set -- "$@" ${words}; exec "$@"`
    const refused = await compareOn('MPICH', 2, made, [], { script })
    expect(refused.code).not.toBe(0)
    expect(refused.stderr.match(/error: /g)).toHaveLength(1)
    expect(refused.stderr).toMatch(message)
    expect(existsSync(at('out-compare'))).toBe(false)
  },
  TIMEOUT,
)

test(
  'a rank that fails ends all, by its name, and jobs and layers on ranks are refused',
  async () => {
    const made = compared(settings)
    const script = '[ "$PMI_RANK" = 1 ] && set -- "$@" --set dataset=missing.jsonl; exec "$@"'
    const failed = await compareOn('MPICH', 2, made, [], { script })
    expect(failed.code).not.toBe(0)
    expect(failed.stderr.match(/error: /g)).toHaveLength(1)
    expect(failed.stderr).toMatch(/error: rank 1 on \S+: .*missing\.jsonl/)

    for (const [flag, value, message] of [
      ['--jobs', '2', 'compare: jobs is 2, but 2 ranks train side by side already'],
      ['--set', 'split=layers', 'lowrank compare on several ranks needs the whole model on each'],
    ] as const) {
      const refused = await compareOn('MPICH', 2, made, [flag, value])
      expect(refused.code).not.toBe(0)
      expect(refused.stderr.match(/error: /g)).toHaveLength(1)
      expect(refused.stderr).toContain(`error: ${message}`)
    }
  },
  TIMEOUT,
)

test(
  'ranks verify the cells of one process, and find one that is another',
  async () => {
    const made = compared(settings)
    const { config, at } = made
    await lowrank(['compare', config, ...SMALL], { env: threads })
    const results = await readResults(at('out-compare'))
    const forged = resealed(results, ({ items }) => void items.loss.splice(0, 1, 0.25), 1)
    await writeResults(at('out-compare'), forged)
    const { wrap, env } = mpirun('MPICH')
    const verified = await lowrank(['compare', 'verify', at('out-compare'), '--json'], {
      wrap: wrap(3),
      env: { ...env, ...threads },
    })
    expect(verified.code).toBe(1)
    const lines = jsonLines(verified.stdout) as { event: string; id: string; same: boolean }[]
    const told = lines.filter(({ event }) => event === 'verified')
    expect(Object.fromEntries(told.map(({ id, same }) => [id, same]))).toEqual({
      ...{ 'lora/42': true, 'lora/43': true, 'lora-fa/42': false, 'lora-fa/43': true },
    })
    expect(lines.at(-1)).toEqual({
      ...{ event: 'verification', same: false, cells: 4, same_binary: true, unrecorded: null },
    })
    const records = (await readResults(at('out-compare'))).verified ?? []
    expect(records.map(({ id, same }) => [id, same]).toSorted()).toEqual([
      ...[
        ['lora-fa/42', false],
        ['lora-fa/43', true],
        ['lora/42', true],
        ['lora/43', true],
      ],
    ])
  },
  TIMEOUT,
)
