import { expect, test } from 'vitest'
import { tinyModel } from '../../e2e/tiny-model.js'
import { lowrank, printed } from './lowrank.js'

const small = ['--seq-len', '16', '--rank', '4']

test.runIf(process.platform === 'linux')('bench memory measures from outside what was planned', async () => {
  const methods = ['--methods', 'full,lora,vera,qlora-8bit']
  const ended = await lowrank(['bench', 'memory', '--model', tinyModel(), ...methods, ...small, '--json'])
  expect(ended.code).toBe(0)
  const [study] = printed<'bench'>(ended)
  expect(study?.bars.map(({ method }) => method)).toEqual(['full', 'lora', 'vera', 'qlora-8bit'])
  for (const { planned_bytes, measured } of study?.bars ?? []) {
    // A process with Node.js in it holds tens of MiB before it has a model, and never less than the plan after.
    expect(measured?.idle_bytes).toBeGreaterThan(20 << 20)
    expect(measured?.peak_bytes).toBeGreaterThan(planned_bytes)
    expect(measured?.anonymous_bytes).toBeGreaterThan(planned_bytes)
  }
})

test.each([
  [['bench', 'magic', '--model', 'm'], 2, "bench 'magic' does not exist; expected memory."],
  [['bench', 'memory', '--model', tinyModel(), '--methods', 'magic'], 2, 'name is "magic"'],
  [['bench', 'memory', '--model', 'no-such-model.gguf'], 1, 'no-such-model.gguf'],
])('%j fails and says why', async (call, expected, message) => {
  const { code, stderr } = await lowrank([...call, ...small])
  expect(stderr).toContain(message)
  expect(code).toBe(expected)
})
