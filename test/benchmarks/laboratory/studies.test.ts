/** Studies of strategies on a tiny model: that they run, and draw what they found. */
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test, vi } from 'vitest'
import { STUDIES } from '../../../benchmarks/laboratory/studies/index.js'
import { type Study, StudyBench, type StudyResult } from '../../../benchmarks/laboratory/study.js'
import { figureSvg } from '../../../lib/bench/pictures.js'
import { loadModel } from '../../../lib/model/load.js'
import type { Model } from '../../../lib/model/model.js'
import { tinyModel } from '../../e2e/tiny-model.js'
import { scratchFolder } from '../../lib/scratch.js'
import { sweepTest } from '../../sweep.js'

// Dozens of short runs, on a machine that may be busy.
vi.setConfig({ testTimeout: 240_000 })

let model: Model
let data: string

beforeAll(async () => {
  model = await loadModel(tinyModel(), { precision: 'fp32' })
  data = join(scratchFolder(), 'rows.jsonl')
  const rows = Array.from({ length: 12 }, (_, i) => ({
    prompt: `${i} plus ${i} is`,
    completion: ` ${2 * i}`,
  }))
  writeFileSync(data, rows.map((row) => `${JSON.stringify(row)}\n`).join(''))
})

afterAll(() => model?.dispose())

async function studied(name: keyof typeof STUDIES, steps: number): Promise<StudyResult & { svg: string }> {
  const study: Study = STUDIES[name]
  const runs: string[] = []
  const bench = new StudyBench(model, {
    ...{ train: data, test: data, steps, seeds: 1 },
    onRun: (run, done) => {
      expect(done).toBe(runs.length)
      runs.push(run)
    },
  })
  const result = await study.run(bench)
  expect(runs.length).toBe(study.runs(1))
  expect(model.adapters).toEqual([])
  const numbers = result.rows
    .flatMap((row) => Object.values(row))
    .filter((value) => typeof value === 'number')
  expect(numbers.every(Number.isFinite)).toBe(true)
  const svg = figureSvg(result.chart, result.title, [bench.about, result.key])
  expect(svg).toMatch(/^<svg [\s\S]*<\/svg>\n$/)
  expect(svg).not.toMatch(/NaN|undefined|Infinity/)
  expect(result.reading).not.toMatch(/NaN|undefined|Infinity/)
  return { ...result, svg }
}

test('adalora-ranks shows the ranks of every linear, which have the mean that was asked for', async () => {
  const { rows, svg } = await studied('adalora-ranks', 10)
  const ranks = rows.map(({ rank }) => rank as number)
  expect(rows.length % 7).toBe(0)
  expect(ranks.reduce((sum, rank) => sum + rank, 0) / rows.length).toBeCloseTo(4, 10)
  expect(new Set(ranks).size).toBeGreaterThan(1)
  for (const type of ['q_proj', 'down_proj']) expect(svg).toContain(type)
})

sweepTest(
  'dylora-ranks has a loss at every rank, and a cut LoRA at all of them is the LoRA of that rank',
  async () => {
    const { rows } = await studied('dylora-ranks', 3)
    const at = (arm: RegExp, rank: number) =>
      rows.find((row) => arm.test(String(row.arm)) && row.rank === rank)?.loss as number
    expect(at(/cut/, 8)).toBeCloseTo(at(/each/, 8), 5)
    expect(new Set([1, 2, 4, 8].map((rank) => at(/^DyLoRA/, rank))).size).toBe(4)
  },
)

sweepTest('lora-plus-rates has all ratios at all rates', async () => {
  const { rows, svg } = await studied('lora-plus-rates', 1)
  expect(rows.length).toBe(36)
  expect(svg).toContain('ratio 32')
})

sweepTest('vera-parameters has fewer parameters for VeRA at any rank than for LoRA', async () => {
  const { rows } = await studied('vera-parameters', 1)
  const of = (arm: string) =>
    rows.filter((row) => row.arm === arm).map(({ parameters }) => parameters as number)
  expect(Math.min(...of('LoRA'))).toBeGreaterThan(Math.min(...of('VeRA')))
  expect(new Set(of('LoRA')).size).toBe(4)
})

sweepTest('delta-lora begins as its control does', async () => {
  const { rows } = await studied('delta-lora', 8)
  const at = (arm: string, step: number) =>
    rows.find((row) => row.arm === arm && row.step === step)?.loss as number
  expect(at('Delta-LoRA', 1)).toBeCloseTo(at('LoRA, alpha × 3', 1), 3)
  expect(rows.filter(({ arm }) => arm === 'LoRA').length).toBe(8)
})

sweepTest('dora-directions has the changes of query and value weights for three methods', async () => {
  const { rows, svg } = await studied('dora-directions', 4)
  expect(new Set(rows.map(({ arm }) => arm))).toEqual(new Set(['Full fine-tuning', 'LoRA', 'DoRA']))
  expect(new Set(rows.map(({ type }) => type))).toEqual(new Set(['q_proj', 'v_proj']))
  // The first step warms up, with a rate of 0.
  for (const { magnitude, direction } of rows.filter(({ step }) => step !== 1)) {
    expect(magnitude).toBeGreaterThan(0)
    expect(direction).toBeGreaterThan(0)
  }
  expect(svg).toContain('DoRA, query: r = ')
})

sweepTest('product-ranks finds the rank of LoRA, and more for LoHa with as many parameters', async () => {
  const { rows } = await studied('product-ranks', 3)
  const of = (arm: string) => rows.find((row) => String(row.arm).startsWith(arm)) as Record<string, number>
  expect(of('LoRA').rank).toBeLessThanOrEqual(8)
  expect(of('LoHa').rank).toBeGreaterThan(8)
  expect(of('LoHa').rank).toBeLessThanOrEqual(16)
  expect(of('LoHa').parameters).toBe(of('LoRA').parameters)
  expect(
    Math.abs(Math.log((of('LoKr').parameters as number) / (of('LoRA').parameters as number))),
  ).toBeLessThan(0.7)
})

sweepTest('lora-drop-importance shares out the importance of each type, and keeps the largest', async () => {
  const { rows } = await studied('lora-drop-importance', 20)
  const cells = rows as { type: string; outputs: number; weights: number; kept_by_outputs: number }[]
  for (const type of ['q_proj', 'down_proj'])
    for (const way of ['outputs', 'weights'] as const) {
      const own = cells.filter((cell) => cell.type === type)
      expect(own.reduce((sum, cell) => sum + cell[way], 0)).toBeCloseTo(1, 10)
      const most = own.reduce((a, b) => (b.outputs > a.outputs ? b : a))
      expect(most.kept_by_outputs).toBe(1)
    }
  expect(cells.some(({ outputs, weights }) => Math.abs(outputs - weights) > 1e-3)).toBe(true)
})
