/** figure.mjs, on tiny models: the pictures of private training, their numbers, and its errors. */
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import type { CanaryStudy, UtilityStudy } from '../../../benchmarks/laboratory/privacy.js'
import { STUDIES } from '../../../benchmarks/laboratory/studies/index.js'
import { noiseMultiplierFor } from '../../../lib/federated/accountant.js'
import { tinyModel } from '../../e2e/tiny-model.js'
import { scratchFolder } from '../../lib/scratch.js'
import { sweepTest, swept } from '../../sweep.js'
import { drawn } from './program.js'

const small = ['--epsilons', '2', '--seeds', '1', '--rounds', '2', '--cohort', '2', '--clients', '8']

sweepTest('privacy-utility is a picture, and the numbers that it shows', async () => {
  const output = join(scratchFolder(), 'figures')
  const data = [
    '--population',
    '1000',
    '--population-cohort',
    '10',
    '--test-rows',
    '6',
    '--local-epochs',
    '1',
  ]
  for (const tasks of swept(
    [
      ['reviews', 'triage'],
      ['reviews', 'complaints', 'wards', 'ratings', 'banking'],
    ],
    1,
  )) {
    const call = ['--model', tinyModel(), '--task', tasks.join(','), ...small, ...data]
    const { study: found, svg } = await drawn('privacy-utility', output, [
      ...call,
      '--epsilons',
      '1,8',
      '--force',
    ])
    const study = found as UtilityStudy
    expect(study.panels.map(({ task }) => task)).toEqual(tasks)
    for (const { arms } of study.panels)
      expect(arms.map(({ arm }) => arm)).toEqual([
        'DP-LoRA, r = 1',
        'DP-LoRA, r = 4',
        'DP-LoRA, r = 8',
        'DP-DyLoRA, r = 8',
      ])
    for (const { points } of study.panels.flatMap(({ arms }) => arms)) {
      expect(points.map(({ epsilon }) => epsilon)).toEqual([1, 8, null])
      for (const { accuracy } of points) {
        expect(accuracy.seeds).toEqual([accuracy.mean])
        // A share of six rows.
        expect([0, 1, 2, 3, 4, 5, 6]).toContain(Math.round(accuracy.mean * 6 * 1e9) / 1e9)
      }
      for (const { epsilon, noise_multiplier } of points) {
        const settings = { samplingRate: 0.01, steps: 2, delta: study.delta }
        const expected = epsilon === null ? 0 : noiseMultiplierFor({ targetEpsilon: epsilon, ...settings })
        expect(noise_multiplier).toBeCloseTo(expected, 9)
      }
    }
    expect(study.delta).toBeCloseTo(1000 ** -1.1, 12)
    for (const { majority } of study.panels) expect(majority).toBeGreaterThan(0)
    expect(study.reading).toContain('nothing of it is private')
    expect(svg).toMatch(/^<svg [\s\S]*DP-DyLoRA, r = 8[\s\S]*<\/svg>\n$/)
    for (const task of tasks) expect(svg).toContain(`>${task} (`)
  }
})

sweepTest(
  'privacy-utility takes SST-2 from its files, with sentences as long as they are there',
  async () => {
    const folder = scratchFolder()
    const long = Array.from({ length: 50 }, (_, i) => `word${i % 7}`).join(' ')
    const lines = Array.from({ length: 40 }, (_, i) => `${i % 5 === 0 ? long : 'a "fine" film'}\t${i % 2}`)
    for (const file of ['train.tsv', 'dev.tsv']) writeFileSync(join(folder, file), `${lines.join('\n')}\n`)
    const short = ['--rounds', '1', '--test-rows', '4', '--local-epochs', '1', '--population', '1000']
    const call = ['--task', `sst2:${folder}`, ...small, ...short, '--population-cohort', '10']
    const { stderr, study } = await drawn('privacy-utility', join(folder, 'out'), call)
    expect(stderr).not.toContain('error')
    expect(study.panels).toMatchObject([{ task: 'sst2', domain: 'opinions', majority: 0.5 }])
  },
)

sweepTest('canary is a picture of what is left of a secret', async () => {
  const output = join(scratchFolder(), 'figures')
  const { study: found, svg } = await drawn('canary', output, ['--model', tinyModel(), ...small])
  const study = found as CanaryStudy
  expect(study.points.map(({ epsilon }) => epsilon)).toEqual([2, null])
  for (const { exposure, loss } of study.points) {
    expect(exposure.mean).toBeGreaterThanOrEqual(0)
    expect(exposure.mean).toBeLessThanOrEqual(8)
    // Null where two rounds drew nobody, which is once in a hundred.
    expect(loss ?? 1).toBeGreaterThan(0)
  }
  expect(study.settings).toMatchObject({ rows: 8, cohort: 2, rounds: 2, seeds: 1 })
  expect(study.chance).toBeCloseTo(1.42, 2)
  expect(svg).toMatch(/^<svg [\s\S]*<\/svg>\n$/)
})

test('strategies are compared by a program of its own, which keeps what is there', async () => {
  const folder = scratchFolder()
  const output = join(folder, 'figures')
  const data = join(folder, 'rows.jsonl')
  writeFileSync(data, `${JSON.stringify({ prompt: 'one plus one is', completion: ' two' })}\n`.repeat(8))
  const flags = ['--model', tinyModel(), '--dataset', data, '--eval-dataset', data]
  flags.push('--steps', '2', '--seeds', '1')
  const { code, study, svg } = await drawn('delta-lora', output, flags)
  expect(code).toBe(0)
  expect(study).toMatchObject({ name: 'delta-lora', settings: { steps: 2, seeds: 1 } })
  expect(svg).toMatch(/^<svg [\s\S]*<\/svg>\n$/)
  const again = await drawn('delta-lora', output, flags)
  expect(again.code).toBe(2)
  expect(again.stderr).toContain(
    'exists; name another folder with --output, or replace the figure with --force.',
  )
})

const known = [...Object.keys(STUDIES), 'privacy-utility', 'canary'].join(', ')

test.each([
  ['', [], `name a figure, one of ${known}.`],
  ['magic', [], `figure 'magic' does not exist; expected one of ${known}.`],
  [
    'privacy-utility',
    ['--task', 'sums'],
    '--task sums: expected some of reviews, complaints, wards, ratings, banking, triage, or sst2:FOLDER.',
  ],
  ['canary', ['--epsilons', '0'], 'Expected numbers above 0'],
  ['delta-lora', ['--rounds', '2'], '--rounds is not a flag of `figure.mjs delta-lora`'],
])('%s %j is wrong use', async (name, flags, message) => {
  const output = join(scratchFolder(), 'figures')
  const { code, stderr } = await drawn(name, output, ['--model', tinyModel(), ...flags])
  expect(stderr).toContain(message)
  expect(code).toBe(2)
})
