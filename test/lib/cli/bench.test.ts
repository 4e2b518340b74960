import { copyFileSync, existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { basename, dirname, join } from 'node:path'
import { expect, test } from 'vitest'
import { formatBytes } from '../../../lib/core/bytes.js'
import { tinyModel } from '../../e2e/tiny-model.js'
import { needs } from '../../needs.js'
import { sweepTest } from '../../sweep.js'
import { scratchFolder } from '../scratch.js'
import { lowrank, printed } from './lowrank.js'

const small = ['--seq-len', '16', '--rank', '4']

sweepTest('bench memory measures from outside what was planned', async () => {
  needs('/proc')
  const methods = ['--methods', 'full,lora,vera,loha,lokr,adalora,lora-drop,qlora-8bit']
  const ended = await lowrank(['bench', 'memory', '--model', tinyModel(), ...methods, ...small, '--json'])
  expect(ended.code).toBe(0)
  const [study] = printed<'bench'>(ended)
  if (study?.what !== 'memory') throw new Error('another measurement')
  expect(study.bars.map(({ method }) => method)).toEqual(methods[1]?.split(','))
  for (const { planned_bytes, measured } of study.bars) {
    // A process with Node.js in it holds tens of MiB before it has a model.
    expect(measured?.idle_bytes).toBeGreaterThan(20 << 20)
    // Workspace that short products leave untouched is planned, but never resident.
    expect(measured?.peak_bytes).toBeGreaterThan(0.9 * planned_bytes)
    expect(measured?.anonymous_bytes).toBeGreaterThan(planned_bytes)
    expect(measured?.pss_anonymous_bytes).toBeGreaterThan(20 << 20)
    expect(measured?.pss_anonymous_bytes).toBeLessThan(1.1 * (measured?.anonymous_bytes ?? 0))
    expect(measured?.pss_file_bytes).toBeLessThan(1.1 * (measured?.file_bytes ?? 0))
  }
})

test('bench memory ends when a training cannot begin', async () => {
  needs('/proc')
  const call = ['bench', 'memory', '--model', tinyModel(), '--methods', 'dp-dylora', ...small]
  const { code, stderr } = await lowrank(call)
  expect(stderr).toContain('dp-dylora on ')
  expect(code).toBe(1)
})

test('bench speed times training, evaluation and generation', async () => {
  needs('CPU times in steps below 16 ms')
  const flags = ['--methods', 'lora,qlora-8bit', '--steps', '3', '--new-tokens', '8']
  const ended = await lowrank(['bench', 'speed', '--model', tinyModel(), ...flags, ...small, '--json'])
  expect(ended.code).toBe(0)
  const [study] = printed<'bench'>(ended)
  if (study?.what !== 'speed') throw new Error('another measurement')
  expect(study.settings).toMatchObject({ steps: 3, new_tokens: 8, max_seq_length: 16, rank: 4 })
  expect(study.methods.map(({ method }) => method)).toEqual(['lora', 'qlora-8bit'])
  for (const { method: _, javascript_share, longest_block_ms, share_of_peak, ...rates } of study.methods) {
    expect(share_of_peak ?? 1).toBeGreaterThan(0)
    for (const rate of Object.values(rates)) expect(rate).toBeGreaterThan(0)
    expect(javascript_share).toBeGreaterThan(0)
    expect(javascript_share).toBeLessThanOrEqual(1)
    expect(longest_block_ms).toBeGreaterThanOrEqual(0)
  }
})

test('bench memory draws what was measured here and planned for other models', async () => {
  needs('/proc')
  const picture = join(scratchFolder(), 'pictures', 'memory.svg')
  const model = tinyModel()
  const config = join(scratchFolder(), 'mine', 'config.json')
  mkdirSync(dirname(config))
  copyFileSync(join(model, 'config.json'), config)
  const call = ['bench', 'memory', '--model', model, '--methods', 'full,qlora', ...small]
  const ended = await lowrank([
    ...[...call, '--shapes', `Llama-2-7B,${config},${model}`, '--out', picture, '--json'],
  ])
  expect(ended.code).toBe(0)
  const [study] = printed<'bench'>(ended)
  if (study?.what !== 'memory') throw new Error('another measurement')
  expect(study.out).toBe(picture)
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
  const svg = readFileSync(picture, 'utf8')
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
  const again = await lowrank([...call, '--shapes', 'Llama-2-7B', '--out', picture])
  expect(again.code).toBe(2)
  expect(again.stderr).toContain(
    `${picture} exists; name another file with --out, or replace it with --force.`,
  )
  const replaced = await lowrank([...call, '--shapes', 'Llama-2-7B', '--out', picture, '--force'])
  expect(replaced.code).toBe(0)
  expect(replaced.stdout).toContain('Llama-2-7B, qlora')
  expect(replaced.stdout).toContain(`The picture is ${picture}.`)
  expect(readFileSync(picture, 'utf8')).not.toContain('mine')
})

test('bench memory measures and writes nothing before its flags are known to be good', async () => {
  const folder = scratchFolder()
  const picture = join(folder, 'memory.svg')
  // A model without weights: to measure it would be another error.
  const config = join(folder, 'config.json')
  copyFileSync(join(tinyModel(), 'config.json'), config)
  const broken = join(folder, 'broken.json')
  writeFileSync(broken, '{"model_type": "gpt2"}')
  for (const [more, code, message] of [
    [['--shapes', 'Lama-7B'], 2, "There is no 'Lama-7B'; expected the path of a config.json"],
    [['--shapes', broken], 1, 'model_type is "gpt2"'],
    [['--shapes', folder, '--rank', '100000'], 2, 'r is 100000'],
    [['--methods', 'full,magic'], 2, "There is no 'magic'"],
    [['--out', '/proc/figures/memory.svg'], 1, 'cannot write the folder /proc/figures'],
    [['--out', 'memory.png'], 2, '--out is memory.png; expected a file name that ends in .svg.'],
  ] as const) {
    const ended = await lowrank(['bench', 'memory', '--model', config, '--out', picture, ...more])
    expect(ended.stderr).toContain(message)
    expect(ended.code).toBe(code)
    expect(existsSync(picture)).toBe(false)
  }
})

test.each([
  [
    ['bench'],
    2,
    'name what to measure, memory or speed, and a model, as in `lowrank bench memory --model MODEL`.',
  ],
  [['bench', 'speed'], 2, 'name a model, as in `lowrank bench speed --model MODEL`.'],
  [['bench', 'magic', '--model', 'm'], 2, "bench 'magic' does not exist; expected memory or speed."],
  [
    ['bench', 'memory', '--model', tinyModel(), '--methods', 'lora,magic'],
    2,
    "There is no 'magic'; expected some",
  ],
  [
    ['bench', 'memory', '--model', tinyModel(), '--steps', '2'],
    2,
    '--steps is not a flag of `lowrank bench memory`',
  ],
  [
    ['bench', 'speed', '--model', tinyModel(), '--out', 'speed.svg'],
    2,
    '--out is not a flag of `lowrank bench speed`',
  ],
  [
    ['bench', 'speed', '--model', tinyModel(), '--precision', 'fp8'],
    2,
    'Allowed choices are auto, fp32, bf16.',
  ],
])('%j fails and says why', async (call, expected, message) => {
  const { code, stderr } = await lowrank([...call, ...small])
  expect(stderr).toContain(message)
  expect(code).toBe(expected)
})

test('bench memory says what is missing', async () => {
  needs('/proc')
  for (const [model, message] of [
    [join(tinyModel(), 'config.json'), 'has no weights'],
    ['no-such-model.gguf', 'no-such-model.gguf'],
  ] as const) {
    const { code, stderr } = await lowrank(['bench', 'memory', '--model', model, ...small])
    expect(stderr).toContain(message)
    expect(code).toBe(1)
  }
})
