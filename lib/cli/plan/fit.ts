/** Output of the settings found by `--fit`. */
import { formatBytes } from '../../core/bytes.js'
import { OutOfMemoryError } from '../../core/errors.js'
import { toFileKeys } from '../../core/schema.js'
import { shortOptimizer } from '../../options/optimizers.js'
import type { Fit, FitChoice } from '../../planning/fit.js'
import type { PlanShape } from '../../planning/plan.js'
import { rulesOf } from '../../strategies/index.js'
import { configSchema, type RunConfig } from '../../train/config.js'
import { configText } from '../../train/config-text.js'
import type { TrainingDefaults } from '../../weights/quantization.js'
import type { Printed } from '../schemas.js'
import type { ProcessMemory } from './process-memory.js'

export const bytesBeside = ({ runtimeBytes, dataBytes }: ProcessMemory) => runtimeBytes + dataBytes

export function shapeOfChoice(choice: FitChoice) {
  const { perDeviceTrainBatchSize, gradientAccumulationSteps, gradientCheckpointing } = choice
  return { perDeviceTrainBatchSize, gradientAccumulationSteps, gradientCheckpointing }
}

export function planShapeOf(choice: FitChoice): PlanShape {
  const { activationOffloading, optimizer, optimizerInBackward, pagedWeights } = choice
  return {
    perDeviceTrainBatchSize: choice.perDeviceTrainBatchSize,
    gradientCheckpointing: choice.gradientCheckpointing,
    ...(activationOffloading && { activationOffloading }),
    ...(optimizer && { optimizer }),
    ...(optimizerInBackward && { optimizerInBackward }),
    ...(pagedWeights && { pagedWeights }),
  }
}

export function nothingFits(
  { strategy, maxSeqLength: length }: RunConfig,
  least: FitChoice,
  { quantization, embeddingQuantization }: TrainingDefaults,
  budget: number,
  beside: ProcessMemory,
): OutOfMemoryError {
  const { memory, perDeviceTrainBatchSize: batch, gradientCheckpointing: recompute } = least
  const held = costOf(least)
  const frozen = rulesOf(strategy).saves !== 'model'
  const advice = !frozen
    ? 'An adapter (lora, or qlora over 4 bits) or a'
    : quantization?.type === 'none'
      ? 'Quantizing the base (nf4) or a'
      : embeddingQuantization?.type === 'none'
        ? 'Quantizing embedding and head too (embedding_quantization: int8 or nf4) or a'
        : 'A'
  return new OutOfMemoryError(
    `nothing fits into ${formatBytes(budget)}: the minimum is ${formatBytes(memory.peakBytes)} and about ${formatBytes(bytesBeside(beside))} for Node.js and the data, with ${batch} x ${length} tokens per micro-batch and ${recompute ? '' : 'no '}gradient checkpointing${held && ` (${held})`}; ${formatBytes(memory.residentBytes)} of it do not depend on these. ${advice} smaller max_seq_length takes less memory; otherwise use a smaller model or a larger machine.`,
    { budget, peakBytes: memory.peakBytes, residentBytes: memory.residentBytes, ...beside },
  )
}

type Choice = NonNullable<Printed<'plan'>['fit']>['choices'][number]
type FitKeys = Omit<
  Choice,
  'peak_bytes' | 'multiply_adds' | 'activation_bytes_moved' | 'state_bytes_moved' | 'base_bytes_read'
>

export function choiceData(choice: FitChoice): Choice {
  return {
    ...(toFileKeys(configSchema, keysOf(choice)) as FitKeys),
    peak_bytes: choice.memory.peakBytes,
    multiply_adds: choice.multiplyAdds,
    activation_bytes_moved: choice.activationBytesMoved,
    state_bytes_moved: choice.stateBytesMoved,
    base_bytes_read: choice.baseBytesRead,
  }
}

/** The keys of a config that a choice stands for. */
function keysOf(choice: FitChoice): Partial<RunConfig> {
  const { activationOffloading, optimizer, optimizerInBackward, pagedWeights } = choice
  return {
    ...shapeOfChoice(choice),
    ...(activationOffloading && { activationOffloading }),
    ...(optimizerInBackward && { optimizerInBackward }),
    // Settings that are the usual ones may be absent from a config.
    ...(optimizer && { optimizer: shortOptimizer(optimizer) as RunConfig['optimizer'] }),
    ...(pagedWeights && { pagedWeights }),
  }
}

/** The settings of a choice that differ from those asked for, and its use of the disk. */
function costOf(choice: FitChoice): string {
  const { activationOffloading, optimizer, optimizerInBackward, pagedWeights } = choice
  const { memory, activationBytesMoved, stateBytesMoved, baseBytesRead } = choice
  const resident = optimizer && 'resident' in optimizer ? ` in ${optimizer.resident}` : ''
  const rounds = optimizer?.type.endsWith('8bit') ? ' (rounds differently)' : ''
  const moved = stateBytesMoved > 0 ? `, ${formatBytes(stateBytesMoved)} moved per step` : ''
  const read = `, ${formatBytes(baseBytesRead)} read per micro-batch`
  return [
    ...(optimizerInBackward ? ['updates in the backward pass'] : []),
    ...(activationOffloading
      ? [`activations on disk, ${formatBytes(activationBytesMoved)} moved per micro-batch`]
      : []),
    ...(optimizer ? [`${optimizer.type}${resident}${rounds}${moved}`] : []),
    ...(pagedWeights ? [`base in ${formatBytes(memory.bytes('paged_weights'))}${read}`] : []),
  ].join('; ')
}

/** The choices that fit, cheapest first, and the keys of the best one. */
export function describeFit(
  config: RunConfig,
  { choices }: Fit,
  budget: number,
  beside: ProcessMemory,
): string {
  const [best] = choices as [FitChoice]
  const sequences = best.perDeviceTrainBatchSize * best.gradientAccumulationSteps
  const rows = choices.map((choice) => [
    `${choice.perDeviceTrainBatchSize} x ${config.maxSeqLength}`,
    String(choice.gradientAccumulationSteps),
    choice.gradientCheckpointing ? 'yes' : 'no',
    formatBytes(choice.memory.peakBytes),
    `${(choice.multiplyAdds / best.multiplyAdds).toFixed(2)} x`,
  ])
  const table = [['at once', 'accumulated', 'checkpointing', 'peak', 'multiply-adds'], ...rows]
  const widths = rows[0]?.map((_, i) => Math.max(...table.map((row) => (row[i] as string).length))) ?? []
  const costs = ['', ...choices.map(costOf)]
  const lines = table.map((row) => row.map((cell, i) => cell.padStart(widths[i] as number)).join('   '))
  const changed = choices.some(
    (choice) => choice.activationOffloading || choice.optimizer || choice.pagedWeights,
  )
  return [
    `${sequences} sequences per step fit into ${formatBytes(budget)}, including about ${formatBytes(bytesBeside(beside))} for Node.js and the data, with these settings (${changed ? 'fewest changes first, then ' : ''}fastest first):`,
    '',
    ...lines.map((line, i) => `${line}   ${costs[i]}`.trimEnd()),
    '',
    'Multiply-adds are those of the products with base weights, and show the cost of checkpointing. Micro-batches of',
    'few tokens are slower than this count suggests, because each reads all weights.',
    ...(changed
      ? [
          'Paging and offloading give the same results, bit for bit; 8-bit state rounds differently from',
          '32-bit state.',
        ]
      : []),
    '',
    configText(keysOf(best)).trimEnd(),
  ].join('\n')
}
