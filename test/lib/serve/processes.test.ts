/** Processes for texts that do not start, or end early. */
import { join } from 'node:path'
import { afterEach, expect, test, vi } from 'vitest'
import { loadModel } from '../../../lib/model/load.js'
import { scratchFolder } from '../scratch.js'
import { type Asked, BASE, begun } from './service.js'

let asked: Asked | undefined
afterEach(() => {
  vi.unstubAllEnvs()
  return asked?.service.close()
})

test('a process that cannot start is the fault of the server, and the next request tries again', async () => {
  asked = await begun(join(scratchFolder(), 'data'))
  const { client, reports } = asked
  const messages = [{ role: 'user' as const, content: 'Hi' }]
  const ask = () => client.chat.completions.create({ model: 'base', messages, max_tokens: 2 })
  vi.stubEnv('LOWRANK_NODE', '/nowhere/node')
  const error = await ask().catch((error) => error)
  expect(error).toMatchObject({ status: 503, type: 'server_error' })
  expect(error.headers.get('retry-after')).toBe('30')
  expect(error.message).not.toContain('nowhere')
  expect(reports.join('\n')).toContain('/nowhere/node')
  vi.unstubAllEnvs()
  expect((await ask()).choices).toHaveLength(1)
})

test('a tokenizer whose process has ended is opened again', async () => {
  await using model = await loadModel(BASE)
  const first = await model.base.tokenizer()
  const options = { addSpecialTokens: false }
  const ids = await first.encode('Hello', options)
  await first.close()
  await expect(first.encode('Hello', options)).rejects.toThrow('closed')
  const [second, same] = await Promise.all([model.base.tokenizer(), model.base.tokenizer()])
  expect(second).toBe(same)
  expect(await second.encode('Hello', options)).toEqual(ids)
})
