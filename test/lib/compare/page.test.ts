import { describe, expect, it } from 'vitest'
import { pageData, pageOf } from '../../../lib/compare/page.js'
import type { CompareEntry, CompareResults } from '../../../lib/compare/results.js'
import { verdict } from '../../../lib/report/compare-verdict.js'

const HASH = 'ab'.repeat(32)

function entry(name: string, right: number[][], more: Partial<CompareEntry> = {}): CompareEntry {
  const share = (scores: number[]) => scores.reduce((sum, one) => sum + one, 0) / scores.length
  return {
    ...{ name, strategy: { name }, base_format: 'none', trainable_parameters: 1000 * name.length },
    planned: { bytes: 1e6 * name.length, rows: [] },
    ...{ file_bytes: 1234, steps: 10, seconds_per_step: 0.1, probe_seconds: 0 },
    searches: [
      {
        ...{ seed: null, start: 3 },
        rates: [1e-4, 1e-3, 1e-2].map((rate, i) => ({
          rate,
          rungs: [{ steps: 5, loss: 2 - i / 2, items: [], seconds: 1 }],
        })),
        ...{ chosen: 1e-2, at_edge: name === 'vera', flat: false, steps: 15, seconds: 3 },
      },
    ],
    cells: right.map((scores, seed) => ({
      ...{ id: `${name}/${seed}`, seed, rate: 1e-2, steps: 10, diverged: false, hash: HASH, bits: HASH },
      metrics: { loss: 1, exact_match: share(scores) },
      items: {
        loss: scores.map(() => 1),
        scores: { exact_match: scores },
        predictions: scores.map((one) => (one ? 'yes' : `</script><b>${name}`)),
      },
      ...{
        general_loss: 3,
        general_losses: [],
        thirds: [],
        curve: [[0, 3] as [number, number], [10, 1] as [number, number]],
        train_losses: [2],
      },
      ...{ seconds: 1, seconds_to_best: 1, tokens_per_second: 100 },
      measured_peak: { bytes: 1e6, rows: [], resident_bytes: 2e6 },
    })),
    ...more,
  }
}

const entries = [
  entry('lora', [
    [1, 1, 0, 0],
    [1, 0, 0, 0],
  ]),
  entry('dora', [
    [1, 1, 1, 0],
    [1, 1, 1, 1],
  ]),
  entry('vera', [
    [0, 0, 0, 0],
    [0, 0, 0, 1],
  ]),
  entry(
    'lora+alpha',
    [
      [1, 1, 0, 0],
      [1, 0, 0, 0],
    ],
    { control_of: 'delta-lora', about: 'LoRA with a larger alpha' },
  ),
]

type Told = 'better' | 'worse' | 'cannot be told'

/** @param told verdicts of DoRA beside LoRA, of VeRA beside LoRA, and of DoRA beside VeRA; null: not finished */
function results(told: readonly [Told, Told, Told] | null): CompareResults {
  const rows = { rows: 4, hash: HASH }
  const means = { dora: 0.875, lora: 0.375, 'lora+alpha': 0.375, vera: 0.125 }
  return {
    ...{ version: 1, kind: 'compare', hash: HASH, created: '2026-01-01T00:00:00.000Z' },
    finished: told === null ? null : '2026-01-01T01:00:00.000Z',
    command: 'lowrank compare run.yaml',
    model: { name: '/models/<SmolLM2>', hash: HASH, quantization: 'none', precision: 'fp32' },
    data: { train: rows, validation: rows, test: rows, general: rows },
    binary: { version: '0.1.0', level: 'avx2', hash: HASH },
    machine: { processor: 'a CPU', threads: 2, platform: 'linux x64' },
    ...{ asked: {}, settings: {}, equal: 'rank' },
    metrics: [
      { name: 'loss', higher_is_better: false, primary: false },
      { name: 'exact_match', higher_is_better: true, primary: true },
    ],
    seeds: [42, 2],
    plan: {
      seconds: 9,
      budget_seconds: null,
      rungs: [5],
      cuts: ['Rates were cut to three.'],
      spent_seconds: 0,
      power: 0.3,
    },
    left_out: [{ name: 'oft', reason: 'the base is quantized' }],
    base: {
      metrics: { loss: 3, exact_match: 0 },
      items: { loss: [3, 3, 3, 3], scores: { exact_match: [0, 0, 0, 0] } },
      ...{
        general_loss: 2.5,
        general_losses: [],
        validation_loss: 3,
        validation_seconds: 1,
        test_seconds: 1,
      },
    },
    entries,
    statistics: told && {
      exact_match: {
        against: ['dora', 'lora+alpha', 'vera'].map((name) => ({
          ...{ name, difference: means[name as keyof typeof means] - 0.375, interval: [-0.1, 0.9] },
          ...{ df: 2, p: 0.1, p_holm: 0.2, p_equal: null, detectable: 0.4 },
          verdict: name === 'dora' ? told[0] : name === 'vera' ? told[1] : 'cannot be told',
        })) as NonNullable<CompareResults['statistics']>[string]['against'],
        margin: null,
        pairs: [
          ['dora', 'vera', told[2]],
          ['dora', 'lora+alpha', 'cannot be told'],
          ['lora+alpha', 'vera', 'cannot be told'],
        ].map(([name, other, verdict]) => ({
          ...{ name, other, verdict, difference: 0.1, p_holm: 0.2, p_equal: null },
        })) as NonNullable<CompareResults['statistics']>[string]['pairs'],
        left_pool: [],
        means: Object.entries(means).map(([name, mean]) => ({
          ...{ name, mean, spread: 0.1, diverged: 0 },
          interval: [mean - 0.1, mean + 0.1],
        })),
        unstable_control: null,
      },
    },
    remarks: ['The best rate of vera is at an edge.'],
  } as CompareResults
}

const open = ['cannot be told', 'cannot be told', 'cannot be told'] as const

const words = (told: readonly [Told, Told, Told] | null) =>
  verdict(pageData(results(told), 'notes'))
    .join(' ')
    .replaceAll(/<\/?b>/g, '')

describe('the page of a compare', () => {
  const html = pageOf(results(['better', 'worse', 'better']), 'notes')

  it('says first what the seeds cannot settle', () => {
    expect(words(['better', 'worse', 'better'])).toMatch(/^DoRA is best: 88%\. Worse: LoRA and VeRA\./)
    expect(words(['cannot be told', 'worse', 'better'])).toMatch(
      /^2 seeds cannot settle which is best\. DoRA has the best mean, 88%; it cannot be told from LoRA\. Worse: VeRA\./,
    )
    expect(words(open)).toMatch(
      /^2 seeds cannot tell these strategies apart\. Differences to LoRA under 40\.0 points would go unseen\. DoRA has the best mean/,
    )
    expect(words(open)).toMatch(/ Each mean is of 2 seeds and \d+ test rows?\. /)
    expect(words(open)).toContain('A best rate of VeRA is at an edge of a search, so it may do better.')
    expect(words(null)).toBe('This compare is not finished. What is there so far is below.')
  })

  it('has every entry, best first, with its numbers, rows that flip, and hashes', () => {
    const names = [...html.matchAll(/role="rowheader" scope="row"><svg.*?<\/svg>([^<]*)</g)].map(
      ([, name]) => name,
    )
    expect(names).toEqual(['DoRA', 'LoRA', 'LoRA, alpha', 'VeRA'])
    expect(html).toContain('<b class="told">better</b> +50.0 <span class="quiet">[−10.0, +90.0]</span>')
    expect(html).toContain('control of Delta-LoRA')
    expect(html).toContain('oft was left out: the base is quantized')
    expect(html).toContain('Rates were cut to three.')
    const [dora] = pageData(results(open), 'notes').entries
    expect(dora?.shares).toEqual([1, 1, 1, 0.5])
    expect(dora?.flips).toMatchObject({ gained: 1, lost: 0, p: 1, examples: [{ item: 3, gained: true }] })
    expect(dora?.forgotten).toBeCloseTo(0.5, 12)
  })

  it('shows names and answers as text, without style attributes, and is complete without its script', () => {
    expect(html).toContain('&lt;SmolLM2&gt;')
    expect(html).not.toContain('</script><b>')
    expect(html).not.toMatch(/ style=| on\w+="|data-chart="[\w-]+"><\/div>/)
    expect(html.match(/<script>/g)).toHaveLength(1)
  })

  it('takes a compare of which nothing is there yet', () => {
    const empty = { ...results(null), base: null, entries: [entry('lora', [])] }
    const page = pageOf(empty as CompareResults, 'notes')
    expect(page).toContain('Not finished')
    expect(page.replace(/<script>.*<\/script>/s, '')).not.toMatch(/>NaN|"NaN|[ "]Infinity|undefined/)
  })
})
