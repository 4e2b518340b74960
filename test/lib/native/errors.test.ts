import { expect, test } from 'vitest'
import { InternalError, ShapeError } from '../../../lib/errors.js'
import { translated, translatedAsync } from '../../../lib/native/errors.js'

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
