import { expect, test } from 'vitest'
import { cardNamed } from '../../../lib/planning/cards.js'
import { EVAL_PLAN, evaluationPlans } from '../../../lib/planning/plans.js'

test('a GPU forms more logits at a time than the CPU, and each as many as it is told to', () => {
  const of = (device: Parameters<typeof evaluationPlans>[1]['device'], logitsMemory: string) => {
    const shape = { perDeviceTrainBatchSize: 1, maxSeqLength: 8, packing: false, logitsMemory }
    return evaluationPlans(shape, { precision: 'bf16', device })[EVAL_PLAN]?.logitsBytes
  }
  expect(of('cpu', 'auto')).toBe(48 * 2 ** 20)
  expect(of('cuda:0', 'auto')).toBe(256 * 2 ** 20)
  expect(of(cardNamed('rtx-4090'), 'auto')).toBe(256 * 2 ** 20)
  expect(of('cuda:0', '16MiB')).toBe(of('cpu', '16MiB'))
})
