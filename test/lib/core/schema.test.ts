import { describe, expect, test } from 'vitest'
import * as z from 'zod'
import { ConfigError } from '../../../lib/core/errors.js'
import { deepFreeze, integer, nearest, parseOptions, toFileKeys } from '../../../lib/core/schema.js'

const schema = z.strictObject({
  evalSteps: integer(1).default(100),
  byPattern: z.record(z.string(), integer(1)).default({}),
  inner: z.strictObject({ maxNorm: z.number({ error: 'a number' }) }).optional(),
})
const file = { name: 'config.yaml', spelling: 'snake' } as const

function messageOf(run: () => unknown): string {
  try {
    run()
  } catch (error) {
    expect(error).toBeInstanceOf(ConfigError)
    return (error as Error).message
  }
  throw new Error('nothing was thrown')
}

describe('options', () => {
  test('are read from files in snake_case and handed over in camelCase with defaults', () => {
    expect(parseOptions(schema, { inner: { max_norm: 2 } }, file)).toEqual({
      evalSteps: 100,
      byPattern: {},
      inner: { maxNorm: 2 },
    })
  })

  test('go back to file keys, except for keys that are data', () => {
    expect(
      toFileKeys(schema, { evalSteps: 3, byPattern: { 'layerOne.q_proj': 2 }, inner: { maxNorm: 1 } }),
    ).toEqual({
      eval_steps: 3,
      by_pattern: { 'layerOne.q_proj': 2 },
      inner: { max_norm: 1 },
    })
  })

  test('refuse an unknown key and name the nearest known one in the spelling of the source', () => {
    expect(messageOf(() => parseOptions(schema, { eval_step: 1 }, file))).toBe(
      'config.yaml: unknown key eval_step; did you mean eval_steps?',
    )
    expect(messageOf(() => parseOptions(schema, { evalSteps: 1 }, file))).toBe(
      'config.yaml: unknown key evalSteps; did you mean eval_steps?',
    )
    expect(
      messageOf(() => parseOptions(schema, { inner: { maxNorm: 1, x: 1 } }, { ...file, spelling: 'camel' })),
    ).toBe('config.yaml: unknown key inner.x; known keys: maxNorm.')
  })

  test('know an unknown key where it stands further down', () => {
    expect(messageOf(() => parseOptions(schema, { max_norm: 1, inner: { max_norm: 2 } }, file))).toBe(
      'config.yaml: unknown key max_norm; did you mean inner.max_norm?',
    )
  })

  test('show an example where a name stands for the options that it chooses', () => {
    const named = z.strictObject({
      how: z.discriminatedUnion('kind', [
        z.strictObject({ kind: z.literal('slow') }),
        z.strictObject({ kind: z.literal('fast'), wheels: integer(1) }),
      ]),
    })
    expect(messageOf(() => parseOptions(named, { how: 'fats' }, file))).toBe(
      'config.yaml: how is "fats", expected a mapping of keys, as in {kind: fast}.',
    )
  })

  test('name numbers that are not finite', () => {
    expect(messageOf(() => parseOptions(schema, { inner: { max_norm: Infinity } }, file))).toBe(
      'config.yaml: inner.max_norm is Infinity, expected a number.',
    )
  })

  test('name source, key, value and expectation of a bad value', () => {
    expect(messageOf(() => parseOptions(schema, { eval_steps: 0 }, file))).toBe(
      'config.yaml: eval_steps is 0, expected a positive integer.',
    )
    expect(messageOf(() => parseOptions(schema, { inner: {} }, { ...file, at: 'top' }))).toBe(
      'config.yaml: top.inner.max_norm is missing, expected a number.',
    )
    expect(messageOf(() => parseOptions(schema, [], file))).toBe(
      'config.yaml: the options: expected a mapping of keys.',
    )
  })

  test('do not take keys that every object inherits for known ones', () => {
    expect(messageOf(() => parseOptions(schema, { constructor: 1 }, file))).toContain(
      'unknown key constructor',
    )
  })
})

test('the nearest word is found within a few edits and nothing is suggested beyond', () => {
  expect(nearest('lorra', ['lora', 'loha'])).toBe('lora')
  expect(nearest('completely_else', ['lora', 'loha'])).toBeUndefined()
  expect(nearest('learning_raet', ['learning_rate'])).toBe('learning_rate')
  expect(nearest('eval_strategy', ['strategy', 'eval_steps'])).toBeUndefined()
  expect(nearest('dpo', ['demo', 'doctor'])).toBeUndefined()
  expect(nearest('lr', ['r'])).toBeUndefined()
  expect(nearest('jsn', ['json'])).toBe('json')
})

test('freezing reaches nested data', () => {
  const frozen = deepFreeze({ list: [{ x: 1 }] })
  expect(Object.isFrozen(frozen.list[0])).toBe(true)
})
