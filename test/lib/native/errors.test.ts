import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { InternalError, ShapeError } from '../../../lib/core/errors.js'
import { CLASSES, translated, translatedAsync } from '../../../lib/native/errors.js'

const native = (code: string) => Object.assign(new Error('weight is [2, 3]'), { code })

test('an error of the native side becomes the class that its code names', async () => {
  const fail = (error: unknown) => () => {
    throw error
  }
  expect(() => translated(fail(native('SHAPE')))).toThrow(ShapeError)
  await expect(translatedAsync(async () => fail(native('INTERNAL'))())).rejects.toThrow(InternalError)
  const shape = new ShapeError('ours')
  expect(() => translated(fail(shape))).toThrow(shape)
  const system = native('ENOENT')
  expect(() => translated(fail(system))).toThrow(system)
})

test('every code that the native sources throw has its class, and every class its code', () => {
  const folder = join(import.meta.dirname, '../../../native')
  const thrown = new Set<string>()
  for (const name of readdirSync(folder, { recursive: true, encoding: 'utf8' })) {
    if (!/\.(cpp|h|inl)$/.test(name)) continue
    const text = readFileSync(join(folder, name), 'utf8').replace(/\/\/.*/g, '')
    for (const [, code] of text.matchAll(/\b(?:fail\(|Error\(|to_js\(\w+,)\s*"([A-Z_]+)"/g))
      thrown.add(code as string)
  }
  expect([...thrown].sort()).toEqual(Object.keys(CLASSES).sort())
  for (const [code, kind] of Object.entries(CLASSES)) expect(new kind('x').code).toBe(code)
})
