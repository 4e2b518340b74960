import { copyFileSync, existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { basename, dirname, join } from 'node:path'
import { expect, test } from 'vitest'
import { formatBytes } from '../../../lib/core/bytes.js'
import { noiseMultiplierFor } from '../../../lib/federated/accountant.js'
import { memoryChart, methodOf, plannedBars } from '../../../lib/laboratory/memory.js'
import { tinyModel } from '../../e2e/tiny-model.js'
import { needs } from '../../needs.js'
import { sweepTest, swept } from '../../sweep.js'
import { scratchFolder } from '../scratch.js'
import { lowrank, printed } from './lowrank.js'

const small = [
  '--epsilons',
  '2',
  '--seeds',
  '1',
  '--rounds',
  '2',
  '--cohort',
  '2',
  '--clients',
  '8',
  '--json',
]

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
    const call = ['figures', 'privacy-utility', '--model', tinyModel(), '--output', output]
    call.push('--task', tasks.join(','))
    const ended = await lowrank([...call, ...small, ...data, '--epsilons', '1,8', '--force'])
    expect(ended.code).toBe(0)
    const [study] = printed<'figures'>(ended)
    if (study?.name !== 'privacy-utility') throw new Error('another figure')
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
    expect(JSON.parse(readFileSync(join(output, 'privacy-utility.json'), 'utf8'))).toEqual(study)
    expect(readFileSync(join(output, 'privacy-utility.svg'), 'utf8')).toMatch(
      /^<svg [\s\S]*DP-DyLoRA, r = 8[\s\S]*<\/svg>\n$/,
    )
    const svg = readFileSync(join(output, 'privacy-utility.svg'), 'utf8')
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
    const call = ['figures', 'privacy-utility', '--output', join(folder, 'out'), '--task', `sst2:${folder}`]
    const short = ['--rounds', '1', '--test-rows', '4', '--local-epochs', '1', '--population', '1000']
    const ended = await lowrank([...call, ...small, ...short, '--population-cohort', '10'])
    expect(ended.stderr).not.toContain('error')
    const [study] = printed<'figures'>(ended)
    if (study?.name !== 'privacy-utility') throw new Error('another figure')
    expect(study.panels).toMatchObject([{ task: 'sst2', domain: 'opinions', majority: 0.5 }])
  },
)

sweepTest('canary is a picture of what is left of a secret', async () => {
  const output = join(scratchFolder(), 'figures')
  const ended = await lowrank(['figures', 'canary', '--model', tinyModel(), '--output', output, ...small])
  expect(ended.code).toBe(0)
  const [study] = printed<'figures'>(ended)
  if (study?.name !== 'canary') throw new Error('another figure')
  expect(study.points.map(({ epsilon }) => epsilon)).toEqual([2, null])
  for (const { exposure, loss } of study.points) {
    expect(exposure.mean).toBeGreaterThanOrEqual(0)
    expect(exposure.mean).toBeLessThanOrEqual(8)
    // Null where two rounds drew nobody, which is once in a hundred.
    expect(loss ?? 1).toBeGreaterThan(0)
  }
  expect(study.settings).toMatchObject({ rows: 8, cohort: 2, rounds: 2, seeds: 1 })
  expect(study.chance).toBeCloseTo(1.42, 2)
  expect(existsSync(join(output, 'canary.svg'))).toBe(true)
})

test('memory is a picture of what training takes, measured here and planned elsewhere', async () => {
  needs('/proc')
  const output = join(scratchFolder(), 'figures')
  const model = tinyModel()
  const config = join(scratchFolder(), 'mine', 'config.json')
  mkdirSync(dirname(config))
  copyFileSync(join(model, 'config.json'), config)
  const ended = await lowrank([
    ...['figures', 'memory', '--model', model, '--output', output, '--json'],
    ...['--methods', 'full,qlora', '--shapes', `Llama-2-7B,${config},${model}`],
    ...['--seq-len', '16', '--rank', '4'],
  ])
  expect(ended.code).toBe(0)
  const [study] = printed<'figures'>(ended)
  if (study?.name !== 'memory') throw new Error('another figure')
  expect(study.bars.map(({ model, method, measured }) => [model, method, measured !== undefined])).toEqual([
    [model, 'full', true],
    [model, 'qlora', true],
    ['Llama-2-7B', 'full', false],
    ['Llama-2-7B', 'qlora', false],
    [config, 'full', false],
    [config, 'qlora', false],
    [model, 'full', false],
    [model, 'qlora', false],
  ])
  for (const { rows, planned_bytes } of study.bars)
    expect(rows.reduce((sum, { bytes }) => sum + bytes, 0)).toBe(planned_bytes)
  // Sixteen bytes a parameter against half a byte and what an adapter takes.
  expect(study.bars[2]?.planned_bytes).toBeGreaterThan(16 * 6.7e9)
  expect(study.bars[3]?.planned_bytes).toBeLessThan(6e9)
  const svg = readFileSync(join(output, 'memory.svg'), 'utf8')
  expect(svg).toMatch(/^<svg [\s\S]*<\/svg>\n$/)
  expect(svg.match(/>[^<]* \((?:measured|planned)\)</g)).toEqual(
    [
      `${basename(model)} (measured)`,
      'Llama-2-7B (planned)',
      'mine (planned)',
      `${basename(model)} (planned)`,
    ].map((name) => `>${name}<`),
  )
  for (const { planned_bytes, measured } of study.bars)
    expect(svg).toContain(
      measured
        ? `>${formatBytes(planned_bytes)}, measured ${formatBytes(measured.peak_bytes)}<`
        : `>${formatBytes(planned_bytes)}<`,
    )
})

const memorySettings = {
  ...{ rank: 16, perDeviceTrainBatchSize: 1, maxSeqLength: 64 },
  ...{ gradientCheckpointing: true, precision: 'fp32' as const },
}

test('a category has one color of its own in every figure of memory, and its name is beside no other', async () => {
  const colors = new Map<string, string>()
  for (const methods of [['full'], ['qlora', 'qlora-paged'], ['qlora-paged', 'lora', 'full-in-backward']]) {
    const bars = await plannedBars(
      [tinyModel()],
      methods.map((name) => methodOf(name, 16)),
      memorySettings,
    )
    const svg = memoryChart(bars, memorySettings)
    const parts = [...svg.matchAll(/class="(m\d)(?: part)?"[^>]*><title>([\w ]+): /g)]
    const legend = [
      ...svg.matchAll(
        /<rect class="(m\d)" x="([\d.]+)" y="([\d.]+)" width="12" height="12" rx="2"\/><text[^>]*>([\w ]+)</g,
      ),
    ]
    expect(new Set(legend.map(([, , , , name]) => name))).toEqual(new Set(parts.map(([, , name]) => name)))
    const named = [
      ...parts.map(([, color, name]) => [name, color]),
      ...legend.map(([, color, , , name]) => [name, color]),
    ]
    for (const [name = '', color = ''] of named) {
      expect([name, colors.get(name) ?? color]).toEqual([name, color])
      colors.set(name, color)
    }
    for (const [index, [, , x, y, name = '']] of legend.entries()) {
      // A letter of 12 px is seldom wider than 6.5.
      const end = Number(x) + 18 + 6.5 * name.length
      const next = legend[index + 1]
      expect(end).toBeLessThan(next !== undefined && next[3] === y ? Number(next[2]) : 720)
    }
  }
  expect(new Set(colors.values()).size).toBe(colors.size)
  expect(colors.size).toBeGreaterThan(7)
})

test('nothing is measured, trained or made before the arguments are known to be good', async () => {
  const folder = scratchFolder()
  const output = join(folder, 'figures')
  // A model without weights: to measure it would be another error.
  const config = join(folder, 'config.json')
  copyFileSync(join(tinyModel(), 'config.json'), config)
  const call = ['figures', 'memory', '--model', config, '--output', output]
  const broken = join(folder, 'broken.json')
  writeFileSync(broken, '{"model_type": "gpt2"}')
  for (const [more, code, message] of [
    [['--shapes', 'Lama-7B'], 2, "There is no 'Lama-7B'; expected the path of a config.json"],
    [['--shapes', broken], 1, 'model_type is "gpt2"'],
    [['--shapes', folder, '--rank', '100000'], 2, 'r is 100000'],
    [['--methods', 'full,magic'], 2, "There is no 'magic'"],
    [['--output', '/proc/figures'], 1, 'cannot write the folder /proc/figures'],
  ] as const) {
    const ended = await lowrank([...call, ...more])
    expect(ended.stderr).toContain(message)
    expect(ended.code).toBe(code)
    expect(existsSync(output)).toBe(false)
  }
  mkdirSync(output)
  const there = join(output, 'memory.json')
  writeFileSync(there, 'mine')
  const taken = await lowrank(call)
  expect(taken).toMatchObject({ code: 2 })
  expect(taken.stderr).toContain(
    `${there} exists; name another folder with --output, or replace the figure with --force.`,
  )
  expect((await lowrank([...call, '--force'])).stderr).not.toContain('exists')
  expect(readFileSync(there, 'utf8')).toBe('mine')
})

test.each([
  [
    ['figures'],
    'name a figure, one of adalora-ranks, dylora-ranks, lora-plus-rates, vera-parameters, delta-lora, dora-directions, lora-drop-importance, product-ranks, privacy-utility, canary, memory.',
  ],
  [
    ['figures', 'magic'],
    "figure 'magic' does not exist; expected one of adalora-ranks, dylora-ranks, lora-plus-rates, vera-parameters, delta-lora, dora-directions, lora-drop-importance, product-ranks, privacy-utility, canary, memory.",
  ],
  [
    ['figures', 'privacy-utility', '--task', 'sums'],
    '--task sums: expected some of reviews, complaints, wards, ratings, banking, triage, or sst2:FOLDER.',
  ],
  [['figures', 'canary', '--epsilons', '0'], 'Expected numbers above 0'],
  [['figures', 'memory', '--seeds', '2'], '--seeds is not a flag of `lowrank figures memory`'],
  [['figures', 'canary', '--no-gradient-checkpointing'], '--no-gradient-checkpointing is not a flag of'],
])('%j is wrong use', async (call, message) => {
  const output = join(scratchFolder(), 'figures')
  const { code, stderr } = await lowrank([...call, '--output', output, '--model', tinyModel()])
  expect(code).toBe(2)
  expect(stderr).toContain(message)
})
