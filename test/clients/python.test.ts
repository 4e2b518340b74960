/** OpenAI's client for Python, in the version of requirements.txt. */
import { fileURLToPath } from 'node:url'
import { afterAll, expect, it } from 'vitest'
import { scratchFile } from '../lib/scratch.js'
import { callingRows } from '../lib/serve/calling.js'
import { rowsOf } from '../lib/serve/service.js'
import { pythonWith } from '../python.js'
import { printedBy, type Served, served } from './server.js'

const at = (name: string) => fileURLToPath(new URL(name, import.meta.url))
const found = await pythonWith('openai', ['-r', at('requirements.txt')])
let server: Served | undefined
afterAll(() => server?.close())

it("fine-tunes, chats, streams, calls tools, and parses answers as with OpenAI's service", async ({
  skip,
}) => {
  if ('skipped' in found) return skip(found.skipped)
  server = await served()
  const files = [scratchFile('numbers.jsonl', rowsOf(100)), scratchFile('calls.jsonl', callingRows())]
  const printed = await printedBy([found.python, at('fine_tuning.py'), ...files], { env: server.env })
  const got = JSON.parse(printed)
  expect(got.tuned).toMatchObject({
    model: expect.stringMatching(/^ft:base:local:numbers:\w{8}$/),
    epochs: 3,
    events: [expect.stringMatching(/^Created fine-tuning job: ftjob-/), 'The job has successfully completed'],
    steps: 300,
    checkpoints: [300, 200, 100],
    columns: 'step,train_loss,train_accuracy,valid_loss,valid_mean_token_accuracy',
    ...{ jobs: true, listed: true },
  })
  expect(got.tuned.trained_tokens).toBeGreaterThan(300)
  const { text, others, events, continued } = got.chat
  expect(text).toMatch(/^Number \d+\.$/)
  expect(others).toEqual(Array(5).fill(text))
  expect(events).toEqual(['response.created', 'response.completed'])
  expect(continued).toBe(4)
  expect(got.at_once).toEqual(Array(8).fill(expect.stringMatching(/^Number \d+\.$/)))
  expect(got.at_once[7]).toBe(text)
  for (const boat of got.structured) {
    expect(boat).toEqual({ name: expect.any(String), crew: expect.any(Number) })
    expect(boat.crew).toSatisfy((crew: number) => Number.isInteger(crew) && crew >= 1 && crew <= 9)
    expect([...boat.name].length).toBeLessThanOrEqual(12)
  }
  expect(got.called).toEqual({
    ...{ call: ['weather', 'Bonn'], streamed: '{"town":"Bonn"}', answer: 'Yes, rain.' },
  })
  expect(got.uploaded).toEqual(['completed', true, true])
  expect(got.refusals).toEqual([
    ['NotFoundError', 404, 'model_not_found', 'model'],
    ['BadRequestError', 400, 'invalid_value', 'temperature'],
    ['BadRequestError', 400, expect.any(String), 'training_file'],
    ['AuthenticationError', 401, 'invalid_api_key', null],
  ])
  expect(got.deleted).toBe(true)
})
