/** `learning_rate: auto`: searched once, recorded, and kept by a resumed run. */
import { readFileSync } from 'node:fs'
import { expect, test } from 'vitest'
import { lowrank, signalWhen } from '../lib/cli/lowrank.js'
import { numbersOf, only, parseEvents, readMetrics } from './events.js'
import { project } from './project.js'

const searched = () =>
  project({
    ...{ learning_rate: 'auto', strategy: { name: 'lora', r: 4 }, max_steps: 800, save_steps: 20 },
    ...{ per_device_train_batch_size: 1, max_seq_length: 64, eval_fraction: 0.2, sample_rows: 0 },
  })

test('a run searches its rate, records it, and keeps it when it is resumed', async () => {
  const it = searched()
  const first = await lowrank(['train', it.config, '--json'], {
    watch: signalWhen('SIGINT', ({ stdout }) => stdout.includes('"step":25,')),
  })
  expect(first.code).toBe(130)
  const [event] = only(parseEvents(first.stdout), 'rate')
  expect(event).toMatchObject({ reason: null, rates: expect.any(Array), steps: expect.any(Number) })
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
