/** Runs of tasks other than the next token: killed at any moment, they go on to the same bits. */
import { readFileSync, writeFileSync } from 'node:fs'
import { expect, test } from 'vitest'
import type { Printed } from '../../lib/cli/schemas.js'
import { jsonLines, lowrank, signalWhen } from '../lib/cli/lowrank.js'
import { numbersOf, only, parseEvents, readMetrics } from './events.js'
import { project } from './project.js'
import { lines, moods, REWARDED, TASKS } from './tasks.js'

const bytesOf = (path: string) => readFileSync(path).toString('base64')
test.each([...Object.entries(TASKS), ['grpo', REWARDED] as const])(
  '%s: killed and resumed, a run makes the same numbers to the last bit',
  async (task, { rows, settings }) => {
    const made = () => {
      const it = project({
        ...{ task, strategy: { name: 'lora', r: 4 }, max_steps: 40, save_steps: 4, learning_rate: 2e-3 },
        ...{ eval_fraction: 0.25, eval_steps: 10, gradient_accumulation_steps: 2, sample_rows: 0 },
        ...settings,
      })
      writeFileSync(it.at('train.jsonl'), lines(rows))
      writeFileSync(it.at('rewards.mjs'), REWARDED.module)
      return it
    }
    const [whole, killed] = [made(), made()]
    const uninterrupted = lowrank(['train', whole.config, '--json'])
    const first = await lowrank(['train', killed.config, '--json'], {
      watch: signalWhen('SIGKILL', ({ stdout }) => stdout.includes('"step":9,')),
    })
    expect(first.code).toBeNull()
    const hasReference = task === 'dpo' || task === 'kto'
    const reference = hasReference ? bytesOf(killed.at('out', 'reference.json')) : undefined
    const resumed = await lowrank(['train', killed.config, '--resume', '--json'])
    expect(resumed.stderr).toContain('Resuming from')
    expect(resumed.code).toBe(0)
    const all = parseEvents((await uninterrupted).stdout)
    const rest = numbersOf(parseEvents(resumed.stdout))
    expect(rest.length).toBeLessThan(40)
    expect(rest).toEqual(numbersOf(all).slice(-rest.length))
    const recorded = readMetrics(killed.at('out', 'metrics.jsonl'))
    expect(numbersOf(recorded)).toEqual(numbersOf(all))
    const evaluations = (events: typeof all) => only(events, 'eval').map(({ time, ...numbers }) => numbers)
    expect(evaluations(recorded)).toEqual(evaluations(all))
    const weights = ['out', 'adapter_model.safetensors']
    expect(bytesOf(killed.at(...weights))).toBe(bytesOf(whole.at(...weights)))
    // The reference of a resumed run is the one that it began with.
    if (reference !== undefined) expect(bytesOf(killed.at('out', 'reference.json'))).toBe(reference)
    const [plan] = jsonLines((await lowrank(['plan', whole.config, '--json'])).stdout) as [
      { peak_bytes: number },
    ]
    expect(plan.peak_bytes).toBe(only(all, 'plan')[0]?.peak_bytes)
  },
)

test('a classifier is trained, evaluated, and refused where text is wanted', async () => {
  const it = project({
    ...{ task: 'classification', strategy: { name: 'lora', r: 4 }, max_steps: 60, learning_rate: 1e-2 },
    ...{
      eval_dataset: 'dev.jsonl',
      eval_steps: 20,
      metric_for_best_model: 'f1',
      load_best_model_at_end: true,
    },
  })
  writeFileSync(it.at('train.jsonl'), lines(moods))
  writeFileSync(it.at('dev.jsonl'), lines(moods.slice(0, 9)))
  const trained = await lowrank(['train', it.config, '--json'])
  expect(trained.code, trained.stderr).toBe(0)
  const events = parseEvents(trained.stdout)
  expect(only(events, 'eval').at(-1)).toMatchObject({ accuracy: 1, macro_f1: 1, matthews_correlation: 1 })
  expect(only(events, 'done')[0]?.best).toMatchObject({ metric: 'f1', value: 1 })
  const sidecar = JSON.parse(readFileSync(it.at('out', 'lowrank.json'), 'utf8'))
  expect(sidecar).toMatchObject({ id2label: { 0: 'bad', 1: 'good' }, label2id: { bad: 0, good: 1 } })

  const named = ['--model', it.model, '--adapter', it.at('out'), '--json']
  const [fromConfig, byFlags, written, exported, planned] = await Promise.all([
    lowrank(['eval', it.config, '--json']),
    lowrank(['eval', ...named, '--dataset', it.at('dev.jsonl')]),
    lowrank(['generate', ...named, '--prompt', 'A film']),
    lowrank(['export', '--format', 'gguf', '--adapter', it.at('out'), '--output', it.at('x.gguf'), '--json']),
    lowrank(['plan', it.config, '--json']),
  ])
  for (const ended of [fromConfig, byFlags])
    expect(jsonLines(ended.stdout), ended.stderr).toMatchObject([
      { metric: 'classes', accuracy: 1, macro_f1: 1, micro_f1: 1, labels: ['bad', 'good'], rows: 9 },
    ])
  const { classes } = jsonLines(fromConfig.stdout)[0] as unknown as Printed<'eval'> & { metric: 'classes' }
  expect(classes.map(({ label, f1 }) => [label, f1])).toEqual([
    ['bad', 1],
    ['good', 1],
  ])
  expect(classes.reduce((sum, { support }) => sum + support, 0)).toBe(9)
  expect(written.code).toBe(1)
  expect(written.stdout).toContain(
    'was loaded as a classifier, whose head scores bad, good and writes no text',
  )
  expect(exported.code).toBe(1)
  expect(exported.stdout).toContain('is an adapter of a classifier: its head scores bad, good')
  const [plan] = jsonLines(planned.stdout) as [{ peak_bytes: number }]
  const [start] = events.filter(({ event }) => event === 'plan') as unknown as [{ peak_bytes: number }]
  expect(plan.peak_bytes).toBe(start.peak_bytes)
})
