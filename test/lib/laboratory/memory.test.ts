import { afterEach, expect, test } from 'vitest'
import { measuredBars, methodOf } from '../../../lib/laboratory/memory.js'

const { platform } = process
afterEach(() => {
  Object.defineProperty(process, 'platform', { value: platform })
})

test.each([
  ['win32', 'Windows'],
  ['darwin', 'macOS'],
])(
  'memory is not measured on %s, which is said at once with what there is in its place',
  async (value, name) => {
    Object.defineProperty(process, 'platform', { value })
    const settings = {
      ...{ rank: 4, perDeviceTrainBatchSize: 1, maxSeqLength: 16 },
      ...{ gradientCheckpointing: false, precision: 'fp32' as const },
    }
    await expect(measuredBars('/nowhere', [methodOf('lora', 4)], settings)).rejects.toMatchObject({
      code: 'UNSUPPORTED',
      message: expect.stringContaining(
        `only Linux has; this is ${name}. lowrank plan prints the planned peak`,
      ),
    })
  },
)
