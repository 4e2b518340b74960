import { expect, test } from 'vitest'
import { tinyModel } from '../../e2e/tiny-model.js'
import { lowrank, printed } from './lowrank.js'

const small = ['--seq-len', '16', '--rank', '4']

test.runIf(process.platform === 'linux')('bench memory measures from outside what was planned', async () => {
  const methods = ['--methods', 'full,lora,vera,loha,lokr,adalora,lora-drop,qlora-8bit']
  const ended = await lowrank(['bench', 'memory', '--model', tinyModel(), ...methods, ...small, '--json'])
  expect(ended.code).toBe(0)
  const [study] = printed<'bench'>(ended)
  if (study?.what !== 'memory') throw new Error('another measurement')
  expect(study.bars.map(({ method }) => method)).toEqual(methods[1]?.split(','))
  for (const { planned_bytes, measured } of study.bars) {
    // A process with Node.js in it holds tens of MiB before it has a model, and never less than the plan after.
    expect(measured?.idle_bytes).toBeGreaterThan(20 << 20)
    expect(measured?.peak_bytes).toBeGreaterThan(planned_bytes)
    expect(measured?.anonymous_bytes).toBeGreaterThan(planned_bytes)
  }
})

test.runIf(process.platform === 'linux')('bench memory ends when a training cannot begin', async () => {
  const call = ['bench', 'memory', '--model', tinyModel(), '--methods', 'dp-dylora', ...small]
  const { code, stderr } = await lowrank(call)
  expect(stderr).toContain('dp-dylora on ')
  expect(code).toBe(1)
})

test('bench speed times training, evaluation and generation', async () => {
  const flags = ['--methods', 'lora,qlora-8bit', '--steps', '3', '--new-tokens', '8']
  const ended = await lowrank(['bench', 'speed', '--model', tinyModel(), ...flags, ...small, '--json'])
  expect(ended.code).toBe(0)
  const [study] = printed<'bench'>(ended)
  if (study?.what !== 'speed') throw new Error('another measurement')
  expect(study.settings).toMatchObject({ steps: 3, new_tokens: 8, max_seq_length: 16, rank: 4 })
  expect(study.methods.map(({ method }) => method)).toEqual(['lora', 'qlora-8bit'])
  for (const { method: _, javascript_share, longest_block_ms, ...rates } of study.methods) {
    for (const rate of Object.values(rates)) expect(rate).toBeGreaterThan(0)
    expect(javascript_share).toBeGreaterThan(0)
    expect(javascript_share).toBeLessThanOrEqual(1)
    expect(longest_block_ms).toBeGreaterThanOrEqual(0)
  }
})

test.each([
  [['bench', 'magic', '--model', 'm'], 2, "bench 'magic' does not exist; expected memory or speed."],
  [['bench', 'memory', '--model', tinyModel(), '--methods', 'magic'], 2, 'name is "magic"'],
  [['bench', 'memory', '--model', 'no-such-model.gguf'], 1, 'no-such-model.gguf'],
])('%j fails and says why', async (call, expected, message) => {
  const { code, stderr } = await lowrank([...call, ...small])
  expect(stderr).toContain(message)
  expect(code).toBe(expected)
})
