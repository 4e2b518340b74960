import { afterEach, expect, test } from 'vitest'
import { measuredBars, memoryChart, methodOf, plannedBars } from '../../../lib/bench/memory.js'
import { tinyModel } from '../../e2e/tiny-model.js'

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

const memorySettings = {
  ...{ rank: 16, perDeviceTrainBatchSize: 1, maxSeqLength: 64 },
  ...{ gradientCheckpointing: true, precision: 'fp32' as const },
}

test('a category has one color of its own in every figure of memory, and its name is beside no other', async () => {
  const colors = new Map<string, string>()
  for (const methods of [['full'], ['qlora', 'qlora-paged'], ['qlora-paged', 'lora', 'full-in-backward']]) {
    const bars = await plannedBars(
      [tinyModel()],
      methods.map((name) => methodOf(name, 16)),
      memorySettings,
    )
    const svg = memoryChart(bars, memorySettings)
    const parts = [...svg.matchAll(/class="(m\d)(?: part)?"[^>]*><title>([\w ]+): /g)]
    const legend = [
      ...svg.matchAll(
        /<rect class="(m\d)" x="([\d.]+)" y="([\d.]+)" width="12" height="12" rx="2"\/><text[^>]*>([\w ]+)</g,
      ),
    ]
    expect(new Set(legend.map(([, , , , name]) => name))).toEqual(new Set(parts.map(([, , name]) => name)))
    const named = [
      ...parts.map(([, color, name]) => [name, color]),
      ...legend.map(([, color, , , name]) => [name, color]),
    ]
    for (const [name = '', color = ''] of named) {
      expect([name, colors.get(name) ?? color]).toEqual([name, color])
      colors.set(name, color)
    }
    for (const [index, [, , x, y, name = '']] of legend.entries()) {
      // A letter of 12 px is seldom wider than 6.5.
      const end = Number(x) + 18 + 6.5 * name.length
      const next = legend[index + 1]
      expect(end).toBeLessThan(next !== undefined && next[3] === y ? Number(next[2]) : 720)
    }
  }
  expect(new Set(colors.values()).size).toBe(colors.size)
  expect(colors.size).toBeGreaterThan(7)
})
