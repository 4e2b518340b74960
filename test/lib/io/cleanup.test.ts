import { afterEach, expect, test, vi } from 'vitest'
import { cleanUp } from '../../../lib/io/cleanup.js'

afterEach(() => vi.restoreAllMocks())

test('tidying up that fails is a warning that names the path and the reason', async () => {
  const warned = vi.spyOn(process, 'emitWarning').mockImplementation(() => undefined)
  await cleanUp('out/checkpoint-5', () => Promise.reject(Object.assign(new Error('busy'), { code: 'EBUSY' })))
  expect(warned).toHaveBeenCalledWith(
    'out/checkpoint-5 could not be cleaned up (EBUSY); remove it by hand.',
    {
      code: 'LOWRANK_CLEANUP',
    },
  )
})
