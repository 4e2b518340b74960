/** Answers of a model of random weights, hot and many at once, to a schema of 60 fields, four deep. */
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { loadModel } from '../../../lib/model/load.js'
import { tinyToolModel } from '../../e2e/tiny-model.js'
import { swept } from '../../sweep.js'
import { ajv, wide } from '../grammar/schemas.js'
import { scratchFolder } from '../scratch.js'
import { type Asked, begun } from './service.js'

const SEEDS = swept(
  Array.from({ length: 200 }, (_, seed) => seed),
  8,
)
let asked: Asked
beforeAll(async () => {
  const models = new Map([['random', await loadModel(tinyToolModel())]])
  asked = await begun(join(scratchFolder(), 'data'), { models })
})
afterAll(() => asked.service.close())

test(`${SEEDS.length} answers are valid`, async () => {
  const schema = wide(60)
  const validate = ajv.compile(schema)
  const request = {
    ...{
      model: 'random',
      messages: [{ role: 'user' as const, content: 'Fill in the form.' }],
      temperature: 2,
    },
    response_format: { type: 'json_schema' as const, json_schema: { name: 'form', strict: true, schema } },
  }
  const waiting = [...SEEDS]
  const lengths: number[] = []
  const ask = async () => {
    for (let seed = waiting.pop(); seed !== undefined; seed = waiting.pop()) {
      const { choices, usage } = await asked.client.chat.completions.create({ ...request, seed })
      const [{ finish_reason, message } = expect.unreachable()] = choices
      expect(finish_reason).toBe('stop')
      const { content } = message
      expect(validate(JSON.parse(content ?? '')), `${content} ${JSON.stringify(validate.errors)}`).toBe(true)
      lengths.push(usage?.completion_tokens ?? 0)
    }
  }
  await Promise.all(Array.from({ length: 16 }, ask))
  expect(lengths).toHaveLength(SEEDS.length)
  expect(Math.min(...lengths)).toBeGreaterThan(400)
})
