import { expect, test } from 'vitest'
import { OutOfMemoryError } from '../../../lib/core/errors.js'
import { MemoryReport } from '../../../lib/planning/memory-report.js'
import { checkRoom, type MemorySettings, memoryAdvice } from '../../../lib/planning/room.js'
import { full } from '../../../lib/strategies/full.js'
import { lora } from '../../../lib/strategies/lora.js'

const GIB = 2 ** 30
const report = (rows: Record<string, number>) =>
  new MemoryReport({
    rows: Object.entries(rows).map(([category, bytes]) => ({ category, bytes })),
    peakBytes: Object.values(rows).reduce((sum, bytes) => sum + bytes, 0),
  } as unknown as ConstructorParameters<typeof MemoryReport>[0])
const settings: MemorySettings = {
  strategy: lora(),
  ...{ perDeviceTrainBatchSize: 8, maxSeqLength: 4096, gradientCheckpointing: true },
  ...{ activationOffloading: false, optimizer: null, quantization: 'none', embeddingQuantization: 'none' },
}

test('a run is refused where it needs more than twice what is free, with sizes and what to do', () => {
  const memory = report({ weights: 2 * GIB, activations: 3000 * GIB })
  const check = (available: number) => () =>
    checkRoom(memory, { needed: memory.peakBytes, available }, settings, 'force: true trains all the same.')
  expect(check(1501 * GIB)).not.toThrow()
  expect(check(1500 * GIB)).toThrow(OutOfMemoryError)
  expect(check(8 * GIB)).toThrow(
    'this run needs 2.93 TiB of memory, and 8.00 GiB are free. 2.93 TiB of it are for the activations of a micro-batch; per_device_train_batch_size below 8, max_seq_length below 4096, or activation_offloading: true takes less. force: true trains all the same.',
  )
})

test('what is on is never advised', () => {
  const advice = (rows: Record<string, number>, more: Partial<MemorySettings>) =>
    memoryAdvice(report(rows), { ...settings, ...more })
  const step = { activations: 8 * GIB }
  expect(advice(step, { gradientCheckpointing: false })).toContain('gradient_checkpointing: true')
  expect(advice(step, { activationOffloading: true, perDeviceTrainBatchSize: 1 })).toBe(
    '8.00 GiB of it are for the activations of a micro-batch; max_seq_length below 4096 takes less.',
  )
  const base = { weights: 8 * GIB }
  expect(advice(base, {})).toContain('quantization: nf4, paged_weights: true, or a smaller model')
  expect(advice(base, { quantization: 'nf4' })).toContain('; embedding_quantization: nf4, paged_weights')
  expect(advice({ ...base, paged_weights: GIB }, { quantization: 'nf4', embeddingQuantization: 'nf4' })).toBe(
    '9.00 GiB of it are for the base model; a smaller model takes less.',
  )
  const trained = { weights: GIB, gradients: 8 * GIB, optimizer: 16 * GIB }
  expect(advice(trained, { strategy: full() })).toContain(
    '24.0 GiB of it are for what trains and its optimizer state; optimizer: paged_adamw_8bit or an adapter in place',
  )
  expect(advice(trained, { optimizer: { type: 'paged_adamw_8bit' } })).toContain(
    '; a lower rank, or fewer target_modules takes less.',
  )
})
