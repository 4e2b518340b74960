import { Ajv2020 } from 'ajv/dist/2020.js'
import { expect, test } from 'vitest'
import { outputSchemas } from '../../../lib/cli/schemas.js'
import { checkLine, checkPrinted, published, publishedSchema } from './contract.js'

const done = {
  event: 'done',
  time: 1_800_000_000.123,
  output_dir: 'out',
  train_loss: 1.5,
  steps: 3,
  peak_rss_bytes: 9,
  tokens_per_second: 7,
}
const error = { event: 'error', code: 'DATA', message: 'a row is empty', details: { line: 3 } }

test.each(published)(
  'the schema %s is JSON Schema 2020-12 with a title, and compiles in strict mode',
  (name) => {
    const schema = publishedSchema(name)
    expect(schema).toMatchObject({
      $schema: 'https://json-schema.org/draft/2020-12/schema',
      title: expect.stringContaining('lowrank'),
    })
    expect(() => new Ajv2020({ strict: true, allowUnionTypes: true }).compile(schema)).not.toThrow()
  },
)

test.each(Object.entries(outputSchemas()))('%s is that of the code', (file, schema) => {
  expect(publishedSchema(file.replace('.schema.json', ''))).toEqual(schema)
})

test('programs may meet fields that a schema does not name; a field that it names must be there', () => {
  const validate = new Ajv2020().compile(publishedSchema('train'))
  expect(validate({ ...done, new_field: 1 })).toBe(true)
  expect(validate({ ...done, steps: undefined })).toBe(false)
  expect(validate({ ...done, peak_rss_bytes: 1.5 })).toBe(false)
})

test('tests see a field that no schema names', () => {
  expect(() => checkLine('train', done)).not.toThrow()
  expect(() => checkLine('train', { ...done, new_field: 1 })).toThrow(/additional properties/)
})

test('an error is a line of every verb, and the last one', () => {
  const lines = (...events: object[]) => events.map((event) => `${JSON.stringify(event)}\n`).join('')
  expect(() => checkPrinted('train', lines(done, error))).not.toThrow()
  expect(() => checkPrinted('train', lines(error, done))).toThrow(/lines after the error/)
  expect(() => checkPrinted('plan', lines(done))).toThrow(/is no line of schemas\/plan/)
  expect(() => checkPrinted('no-verb', lines(done))).toThrow(/is no line of schemas\/error/)
})
