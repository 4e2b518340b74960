/** Evaluations that ranks share: the numbers of one process, told once. */
import { readFileSync, writeFileSync } from 'node:fs'
import { expect, test } from 'vitest'
import { lowrank } from '../lib/cli/lowrank.js'
import { numbersOf, only, parseEvents } from './events.js'
import { MPI_FAMILIES, mpirun } from './mpi.js'
import { type Project, project } from './project.js'
import { lines, TASKS } from './tasks.js'

const TIMEOUT = 240_000
const threads = { LOWRANK_THREADS: '1' }
const set = (key: string, value: unknown) => ['--set', `${key}=${value}`]
const evaluation = ({ at }: Project, args: string[] = []) => [
  ...['eval', '--model', at('smollm2'), '--dataset', at('train.jsonl'), '--max-seq-length', '96'],
  ...['--batch', '1', '--json', ...args],
]

test.each([
  [2, 'loss'],
  [3, 'exact_match'],
  [3, 'mean_token_accuracy'],
] as const)(
  '%i ranks evaluate the %s of one process',
  async (ranks, metric) => {
    const made = project()
    const args = evaluation(made, ['--metric', metric])
    const alone = await lowrank(args, { env: threads })
    expect(alone).toMatchObject({ code: 0 })
    for (const family of MPI_FAMILIES) {
      const { wrap, env } = mpirun(family)
      const together = await lowrank(args, { wrap: wrap(ranks), env: { ...env, ...threads } })
      expect(together).toMatchObject({ code: 0, stdout: alone.stdout })
      expect(together.stderr).toContain(`Evaluating on ${ranks} ranks`)
    }
  },
  TIMEOUT,
)

test(
  'ranks that would evaluate other rows are refused, by name and once',
  async () => {
    const made = project()
    const { wrap, env } = mpirun('MPICH')
    writeFileSync(made.at('other.jsonl'), readFileSync(made.at('train.jsonl'), 'utf8').replace('sky', 'sea'))
    const script = `d=train.jsonl; [ "$PMI_RANK" = 1 ] && d=other.jsonl; exec "$@" --dataset ${made.at()}/$d`
    const refused = await lowrank(evaluation(made), {
      wrap: (node, args) => wrap(2)('sh', ['-c', script, 'sh', node, ...args]),
      env: { ...env, ...threads },
    })
    expect(refused.code).not.toBe(0)
    expect(refused.stderr.match(/error: /g)).toHaveLength(1)
    expect(refused.stderr).toMatch(/rank 1 on \S+ has another evaluation data than rank 0 on/)
  },
  TIMEOUT,
)

test(
  'a SIGTERM of one rank stops all of them, with one message',
  async () => {
    const made = project({}, 2000)
    const { wrap, env } = mpirun('MPICH')
    let sent = false
    const stopped = await lowrank(evaluation(made), {
      wrap: (node, args) => wrap(2)('sh', ['-c', 'echo $$ > pid.$PMI_RANK; exec "$@"', 'sh', node, ...args]),
      env: { ...env, ...threads },
      cwd: made.at(),
      watch: (_, { stderr }) => {
        if (sent || !stderr.includes('Loading')) return
        sent = true
        setTimeout(() => process.kill(Number(readFileSync(made.at('pid.1'), 'utf8')), 'SIGTERM'), 1500)
      },
    })
    expect(stopped.code).toBe(130)
    // With its name where the others were still reading.
    expect(stopped.stdout).toMatch(
      /^{"event":"error","code":"INTERRUPTED","message":"(rank 1 on \S+: )?stopped on request\."/,
    )
    expect(stopped.stderr.match(/interrupted: /g)).toHaveLength(1)
  },
  TIMEOUT,
)

test.each([
  ...Object.entries(TASKS),
  ...['exact_match', 'f1'].map((metric) => [metric, { rows: null, settings: {} }] as const),
])(
  '%s: two ranks evaluate as one process',
  async (task, { rows, settings }) => {
    const asked = rows === null ? { metric_for_best_model: task } : { task }
    const made = project({
      ...{ strategy: { name: 'lora', r: 4 }, max_steps: 6, learning_rate: 2e-3, sample_rows: 0 },
      ...{ eval_fraction: 0.4, eval_steps: 3, ...asked, ...settings },
    })
    if (rows !== null) writeFileSync(made.at('train.jsonl'), lines(rows))
    const { wrap, env } = mpirun('MPICH')
    const run = (folder: string, accumulation: number) => [
      ...['train', made.config, '--json', ...set('output_dir', made.at(folder))],
      ...set('gradient_accumulation_steps', accumulation),
    ]
    const together = await lowrank(run('two', 1), { wrap: wrap(2), env: { ...env, ...threads } })
    expect(together).toMatchObject({ code: 0 })
    const alone = await lowrank(run('one', 2), { env: threads })
    const [two, one] = [together, alone].map(({ stdout }) => parseEvents(stdout)) as [[], []]
    const evaluations = (events: []) => only(events, 'eval').map(({ time, ...numbers }) => numbers)
    expect(evaluations(two)).toHaveLength(3)
    expect(evaluations(two)).toEqual(evaluations(one))
    expect(numbersOf(two)).toEqual(numbersOf(one))
    if (task !== 'dpo') return
    const scores = ['two', 'one'].map((folder) => {
      const { train, evaluation } = JSON.parse(readFileSync(made.at(folder, 'reference.json'), 'utf8'))
      return { train, evaluation }
    })
    expect(scores[0]).toEqual(scores[1])
  },
  TIMEOUT,
)
