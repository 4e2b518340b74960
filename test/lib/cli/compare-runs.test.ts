import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { compareRunsText } from '../../../lib/cli/compare-runs.js'
import type { ComparedRun, ComparedRuns } from '../../../lib/compare/runs.js'
import { tinyModel } from '../../e2e/tiny-model.js'
import { sweepTest } from '../../sweep.js'
import { scratchFolder } from '../scratch.js'
import { lowrank, printed } from './lowrank.js'

const run = (folder: string, more: Partial<ComparedRun>): ComparedRun => ({
  ...{ folder, outputDir: folder, strategy: 'lora', learningRate: 0.001, seed: 1, ended: true },
  ...{
    curve: [
      [1, 3],
      [200, 0.5],
    ],
    trainLoss: 0.61234,
    keptStep: null,
    lacks: null,
  },
  evaluations: [0, 25, 50, 75, 100, 125, 150, 175, 200].map((step) => ({ step, loss: 3 - step / 100 })),
  items: { matched: [true, false], exactMatch: 0.5, interval: [0.1, 0.9], meanTokenAccuracy: 0.7 },
  ...more,
})

const found: ComparedRuns = {
  runs: [run('out/a', {}), run('out/b', { strategy: 'dora', keptStep: 100 })],
  rows: 150,
  pairs: [{ first: 0, second: 1, onlyFirst: 12, onlySecond: 3, p: 0.03515625 }],
  flips: [3, 9],
  shown: [
    { row: 3, prompt: 'What is it?', expected: 'a cat', answers: ['a cat', 'a dog'], matched: [true, false] },
  ],
}

test('runs are a table that fits 80 columns, with curves, the test, and the rows that flipped', () => {
  const lines = compareRunsText(found, 80).split('\n')
  expect(Math.max(...lines.map((line) => line.length))).toBeLessThanOrEqual(80)
  expect(lines.slice(0, 3)).toEqual([
    'run  strategy   rate  steps   train  held-out  exact match',
    'a    lora      0.001    200  0.6123      1.00  50 % (10 to 90)',
    'b    dora      0.001    200  0.6123      2.00  50 % (10 to 90)',
  ])
  const text = lines.join('\n')
  expect(text).toContain('Held-out loss by step\nstep     a     b\n   0  3.00  3.00')
  expect(text).toContain(' 200  1.00  1.00')
  expect(text).toContain('Rows of 150 that one run alone')
  expect(text).toContain('a      b               12            3  0.035')
  expect(text).toContain('2 rows answered differently; the first 1:')
  expect(text).toMatch(
    /row 4\n {2}prompt {4}What is it\?\n {2}expected {2}a cat\n {2}a {9}a cat ✓\n {2}b {9}a dog$/,
  )
})

test('a run without evaluations has its training losses, and one without items says why', () => {
  const lacks = 'c has no config.yaml, since a program made the run; items cannot be evaluated again'
  const bare = run('out/c', { strategy: null, learningRate: null, evaluations: [], items: null, lacks })
  const text = compareRunsText(
    { ...found, runs: [found.runs[0] as ComparedRun, bare], pairs: [], flips: [], shown: [] },
    80,
  )
  expect(text).toContain('Training loss by step\nstep       a       c\n   1')
  expect(text).toContain(`${lacks}.`)
  expect(text).toMatch(/\nc {4}– {13}– {4}200 {2}0\.6123 {9}– {2}–\n/)
  expect(text).not.toContain('McNemar')
})

test('runs of the same name are told apart by their paths', () => {
  const folders = [join('one', 'out'), join('two', 'out')]
  const runs = folders.map((folder) => run(folder, {}))
  const text = compareRunsText({ ...found, runs }, 120)
  expect(text).toContain(`${folders.join('  ')}          12`)
})

sweepTest('two folders are compared as runs, and what else is named beside one is refused', async () => {
  const folder = scratchFolder()
  const rows = [0, 1, 2, 3].map((i) => `${JSON.stringify({ prompt: `${i} is`, completion: ' even' })}\n`)
  writeFileSync(join(folder, 'rows.jsonl'), rows.join(''))
  const config = { model: tinyModel(), dataset: 'rows.jsonl', eval_dataset: 'rows.jsonl', max_steps: 1 }
  for (const name of ['a', 'b'])
    writeFileSync(
      join(folder, `${name}.yaml`),
      JSON.stringify({ ...config, strategy: { name: 'lora' }, output_dir: name, sample_rows: 0 }),
    )
  const [a, b] = [join(folder, 'a'), join(folder, 'b')]
  for (const run of [a, b]) expect((await lowrank(['train', `${run}.yaml`])).code).toBe(0)
  const ended = await lowrank(['compare', a, b, '--json'])
  expect(ended.code).toBe(0)
  const [event] = printed<'compare'>(ended)
  if (event?.event !== 'runs') throw new Error('another event')
  expect(event.runs.map(({ folder, items }) => [folder, items?.matched.length])).toEqual([
    [a, 4],
    [b, 4],
  ])
  expect(event.pairs).toEqual([{ first: 0, second: 1, only_first: 0, only_second: 0, p: 1 }])
  for (const [call, message] of [
    [[a], 'two runs or more'],
    [[a, folder], 'is not the output folder of a run'],
    [[a, b, '--seeds', '3'], '--seeds is not a flag of `lowrank compare RUN RUN`'],
    [[`${a}.yaml`, '--dataset', 'rows.jsonl'], '--dataset is a flag of `lowrank compare RUN RUN`'],
  ] as const) {
    const refused = await lowrank(['compare', ...call])
    expect(refused.code).not.toBe(0)
    expect(refused.stderr).toContain(message)
  }
})
