import { join } from 'node:path'
import { expect, test } from 'vitest'
import { tinyModel } from '../../e2e/tiny-model.js'
import { needs } from '../../needs.js'
import { sweepTest } from '../../sweep.js'
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

test.each(['fp32', 'bf16'])('bench kernels times each shape of a step once, in %s', async (precision) => {
  const model = ['--model', join(tinyModel(), 'config.json'), '--batch', '2', '--precision', precision]
  const flags = [...model, '--rounds', '1', '--threads', '1', ...small, '--json']
  const ended = await lowrank(['bench', 'kernels', ...flags])
  expect(ended.code).toBe(0)
  const [study] = printed<'bench'>(ended)
  if (study?.what !== 'kernels') throw new Error('another measurement')
  const settings = { rank: 4, precision, format: 'nf4_double', rounds: 1, threads: 1 }
  expect(study.settings).toMatchObject(settings)
  // Two layers of 96, with six heads and two key-value heads of 16; 32 tokens, each of which sees those before it.
  const linear = ([out, inputs]: readonly [number, number], count: number) =>
    (['forward', 'input_gradient', 'adapter_gradient'] as const).map((name) => {
      const multiplyAdds = name === 'adapter_gradient' ? 4 * (out + inputs) : out * inputs
      return ['linear', name, count, 2 * 32 * multiplyAdds]
    })
  const pair = 2 * 96 * 2 * ((16 * 17) / 2)
  expect(
    study.kernels.map(({ kernel, name, count, seconds, operations_per_second }) => [
      ...[kernel, name, count],
      Math.round(seconds * operations_per_second),
    ]),
  ).toEqual([
    ...linear([96, 96], 4),
    ...linear([32, 96], 4),
    ...linear([192, 96], 4),
    ...linear([96, 192], 2),
    ['attention', 'forward', 2, 2 * pair],
    ['attention', 'backward', 2, 5 * pair],
    ['head_loss', 'forward_backward', 1, 2 * 2 * 32 * 256 * 96],
  ])
  for (const { seconds, share_of_peak } of study.kernels) {
    expect(seconds).toBeGreaterThan(0)
    expect(share_of_peak ?? 1).toBeGreaterThan(0)
  }
})

test('bench kernels takes the formats of GGUF files and the levels of the machine', async () => {
  const model = ['--model', join(tinyModel(), 'config.json'), ...small, '--rounds', '1']
  const ended = await lowrank([
    'bench',
    'kernels',
    ...model,
    '--format',
    'q8_0',
    '--level',
    'reference',
    '--json',
  ])
  expect(ended.code).toBe(0)
  const [study] = printed<'bench'>(ended)
  if (study?.what !== 'kernels') throw new Error('another measurement')
  expect(study.settings).toMatchObject({ format: 'q8_0', level: 'reference', precision: 'fp32' })
  expect(new Set(study.kernels.map(({ share_of_peak }) => share_of_peak))).toEqual(new Set([null]))
})

const kernels = ['bench', 'kernels', '--model', tinyModel()]

test.each([
  [
    ['bench'],
    2,
    'name what to measure, memory, speed or kernels, and a model, as in `lowrank bench memory --model MODEL`.',
  ],
  [['bench', 'speed'], 2, 'name a model, as in `lowrank bench speed --model MODEL`.'],
  [['bench', 'magic', '--model', 'm'], 2, "bench 'magic' does not exist; expected memory, speed or kernels."],
  [[...kernels, '--format', 'q9'], 2, "--format is 'q9', expected one of f32, bf16, f16, nf4, "],
  [[...kernels, '--format', 'q4_k', '--rounds', '1'], 1, 'whose blocks have 256 elements of a row'],
  [[...kernels, '--level', 'magic'], 2, "isa is 'magic'; expected one of reference"],
  [[...kernels, '--rounds', '0'], 2, 'Expected an integer from 1.'],
  [
    ['bench', 'memory', '--model', tinyModel(), '--methods', 'lora,magic'],
    2,
    "There is no 'magic'; expected some",
  ],
  [
    ['bench', 'memory', '--model', tinyModel(), '--format', 'q4_k'],
    2,
    '--format is not a flag of `lowrank bench memory`',
  ],
  [[...kernels, '--methods', 'lora'], 2, '--methods is not a flag of `lowrank bench kernels`'],
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
