/** The kernel study, at the shapes of a tiny model. */
import { beforeAll, describe, expect, test } from 'vitest'
import { kernelStudy, kernelsOf, measureKernels } from '../../../benchmarks/laboratory/kernels.js'
import { openShape } from '../../../lib/planning/plan.js'
import { tinyModel } from '../../e2e/tiny-model.js'

// Where the native tests are given, as those of another system, their sources may not build here.
const builds = process.env.LOWRANK_NATIVE_TESTS === undefined
beforeAll(async () => void (builds && (await kernelStudy())), 600_000)

const settings = { rank: 4, perDeviceTrainBatchSize: 2, maxSeqLength: 16 }

describe.runIf(builds)('the kernel study', () => {
  test.each(['f32', 'bf16'] as const)('times each shape of a step once, in %s', async (precision) => {
    const uses = kernelsOf(await openShape(tinyModel()), { ...settings, precision, format: 'nf4_double' })
    const rates = await measureKernels(uses, { precision, rounds: 1 })
    // Two layers of 96, with six heads and two key-value heads of 16; 32 tokens, each of which sees those before it.
    const linear = ([out, inputs]: readonly [number, number], count: number) =>
      (['forward', 'input_gradient', 'adapter_gradient'] as const).map((name) => {
        const multiplyAdds = name === 'adapter_gradient' ? 4 * (out + inputs) : out * inputs
        return ['linear', name, count, 2 * 32 * multiplyAdds]
      })
    const pair = 2 * 96 * 2 * ((16 * 17) / 2)
    expect(
      rates.map(({ subject, name, count, seconds, operationsPerSecond }) => [
        ...[subject.kind, name, count],
        Math.round(seconds * operationsPerSecond),
      ]),
    ).toEqual([
      ...linear([96, 96], 4),
      ...linear([32, 96], 4),
      ...linear([192, 96], 4),
      ...linear([96, 192], 2),
      ['attention', 'forward', 2, 2 * pair],
      ['attention', 'backward', 2, 5 * pair],
      ['head_loss', 'forward_backward', 1, 2 * 2 * 32 * 256 * 96],
    ])
    for (const { seconds, shareOfPeak } of rates) {
      expect(seconds).toBeGreaterThan(0)
      expect(shareOfPeak ?? 1).toBeGreaterThan(0)
    }
  })

  test('takes the formats of GGUF files, and has no peak for plain loops', async () => {
    const shape = await openShape(tinyModel())
    const uses = kernelsOf(shape, { ...settings, precision: 'f32', format: 'q8_0' })
    const rates = await measureKernels(uses, { precision: 'f32', rounds: 1, isa: 'reference' })
    expect(new Set(rates.map(({ shareOfPeak }) => shareOfPeak))).toEqual(new Set([null]))
  })

  test('refuses a format whose blocks do not fit into a row', async () => {
    const uses = kernelsOf(await openShape(tinyModel()), { ...settings, precision: 'f32', format: 'q4_k' })
    await expect(measureKernels(uses, { precision: 'f32', rounds: 1 })).rejects.toThrow(
      'whose blocks have 256 elements of a row',
    )
  })
})
