/** `learning_rate: auto`: searched once, recorded, and kept by a resumed run. */
import { readFileSync } from 'node:fs'
import { expect, test } from 'vitest'
import { lowrank, signalWhen } from '../lib/cli/lowrank.js'
import { sweepTest } from '../sweep.js'
import { numbersOf, only, parseEvents, readMetrics } from './events.js'
import { mpirun } from './mpi.js'
import { project } from './project.js'

const searched = (rows = 40) =>
  project(
    {
      ...{ learning_rate: 'auto', strategy: { name: 'lora', r: 4 }, max_steps: 800, save_steps: 20 },
      ...{ per_device_train_batch_size: 1, max_seq_length: 64, eval_fraction: 0.2, sample_rows: 0 },
    },
    rows,
  )

test('a run searches its rate, records it, and keeps it when it is resumed', async () => {
  const it = searched()
  const first = await lowrank(['train', it.config, '--json'], {
    watch: signalWhen('SIGINT', ({ stdout }) => stdout.includes('"step":25,')),
  })
  expect(first.code).toBe(130)
  const [event] = only(parseEvents(first.stdout), 'rate')
  expect(event).toMatchObject({ reason: null, rates: expect.any(Array), steps: expect.any(Number) })
  expect(first.stderr).not.toContain('the run may diverge')
  const rate = event?.learning_rate as number
  expect(first.stderr).toContain(`Learning rate: ${rate}, by a search of ${event?.steps} steps in `)
  expect(readFileSync(it.at('out', 'config.yaml'), 'utf8')).toMatch(
    new RegExp(`^learning_rate: ${String(rate).replace('e-0', 'e-')}$`, 'm'),
  )
  expect(readFileSync(it.at('out', 'report.html'), 'utf8')).toContain('found by a search of')

  const resumed = await lowrank(['train', it.config, '--resume', '--json'], {
    watch: signalWhen('SIGINT', ({ stdout }) => stdout.includes('"step":30,')),
  })
  expect(resumed.stderr).not.toContain('Learning rate:')
  const events = parseEvents(resumed.stdout)
  expect(only(events, 'rate')).toEqual([])
  expect(numbersOf(events).length).toBeGreaterThan(0)
  const recorded = readMetrics(it.at('out', 'metrics.jsonl'))
  expect(only(recorded, 'rate')).toMatchObject([{ ...event, time: expect.any(Number) }])
  expect(only(recorded, 'start').map(({ config }) => config.learning_rate ?? 1e-3)).toEqual([rate, rate])
})

sweepTest(
  'three ranks search the rate of one process with the batch of all, and a stop of one ends the search',
  async () => {
    const it = searched()
    const threads = { LOWRANK_THREADS: '1' }
    const { wrap, env } = mpirun('MPICH')
    const atRate = signalWhen('SIGTERM', ({ stdout }) => stdout.includes('"event":"rate"'))
    const three = ['--set', 'gradient_accumulation_steps=3', '--set', `output_dir=${it.at('one')}`]
    const alone = await lowrank(['train', it.config, '--json', ...three], { env: threads, watch: atRate })
    const watch = signalWhen('SIGTERM', ({ stdout }) => stdout.includes('"event":"rate"'))
    const together = await lowrank(['train', it.config, '--json'], {
      ...{ wrap: wrap(3), env: { ...env, ...threads }, watch },
    })
    const [one, all] = [alone, together].map(({ stdout }) => only(parseEvents(stdout), 'rate')[0])
    expect(one?.reason, alone.stderr).toBeNull()
    expect({ ...all, seconds: 0, time: 0 }).toEqual({ ...one, seconds: 0, time: 0 })

    const script = 'echo $$ > pid.$PMI_RANK; exec "$@"'
    let sent = false
    // So long a search that it is shown; a step takes no more rows than there are.
    const slow = searched(1000)
    const stopped = await lowrank(['train', slow.config, '--set', 'gradient_accumulation_steps=800'], {
      wrap: (node, args) => wrap(2)('sh', ['-c', script, 'sh', node, ...args]),
      ...{ env: { ...env, ...threads }, cwd: slow.at() },
      watch: (_, { stderr }) => {
        if (sent || !stderr.includes('Searching the learning rate')) return
        sent = true
        process.kill(Number(readFileSync(slow.at('pid.1'), 'utf8')), 'SIGTERM')
      },
    })
    expect(stopped.code).not.toBe(0)
    expect(stopped.stderr).toContain('stopped while searching the learning rate; nothing was saved.')
  },
  240_000,
)

test('a run too short for a search takes the default, and says so', async () => {
  const it = project({ learning_rate: 'auto', max_steps: 2, sample_rows: 0 })
  const { code, stdout, stderr } = await lowrank(['train', it.config, '--json'])
  expect(code, stderr).toBe(0)
  expect(stderr).toContain(
    "Learning rate: 0.001, the default of qlora: a search takes at least 120 steps, more than 15 % of the run's 2.",
  )
  const [event] = only(parseEvents(stdout), 'rate')
  expect(event).toMatchObject({ learning_rate: 1e-3, rates: [], steps: 0 })
})
