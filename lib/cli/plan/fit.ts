/** Describes the settings found by `--fit`. */
import { formatBytes } from '../../core/bytes.js'
import { OutOfMemoryError } from '../../core/errors.js'
import { toFileKeys } from '../../core/schema.js'
import { type FitOption, fitChangesOf } from '../../options/memory-shape.js'
import { shortOptimizer } from '../../options/optimizers.js'
import { type Card, ownBytes } from '../../planning/cards.js'
import type { Fit, FitChoice } from '../../planning/fit.js'
import type { PlanShape } from '../../planning/plan.js'
import { rulesOf } from '../../strategies/index.js'
import { configSchema, type RunConfig } from '../../train/config/config.js'
import { configText } from '../../train/config/config-schema.js'
import type { TrainingDefaults } from '../../weights/quantization.js'
import { fittedTable } from '../format.js'
import type { Printed } from '../schemas.js'
import type { ProcessMemory } from './process-memory.js'

export const bytesBeside = ({ runtimeBytes, dataBytes }: ProcessMemory) => runtimeBytes + dataBytes

/** Part of a budget that is not available to the plan. */
export interface Apart {
  bytes: number
  /** User of this, worded to follow "for". */
  what: string
}

export function apartFrom(beside: ProcessMemory, card: Card | undefined): Apart {
  return card === undefined
    ? { bytes: bytesBeside(beside), what: 'Node.js and the data' }
    : { bytes: ownBytes(card), what: 'the driver and what fragments' }
}

export function shapeOfChoice(choice: FitChoice) {
  const { perDeviceTrainBatchSize, gradientAccumulationSteps, gradientCheckpointing } = choice
  return { perDeviceTrainBatchSize, gradientAccumulationSteps, gradientCheckpointing }
}

export function planShapeOf(choice: FitChoice): PlanShape {
  const { perDeviceTrainBatchSize, gradientCheckpointing } = choice
  return { perDeviceTrainBatchSize, gradientCheckpointing, ...fitChangesOf(choice) }
}

export function nothingFits(
  { strategy, maxSeqLength: length }: RunConfig,
  least: FitChoice,
  { quantization, embeddingQuantization }: TrainingDefaults,
  budget: number,
  apart: Apart,
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
    `nothing fits into ${formatBytes(budget)}: the minimum is ${formatBytes(memory.peakBytes)} and about ${formatBytes(apart.bytes)} for ${apart.what}, with ${batch} x ${length} tokens per micro-batch and ${recompute ? '' : 'no '}gradient checkpointing${held && ` (${held})`}; ${formatBytes(memory.residentBytes)} of it do not depend on these. ${advice} smaller max_seq_length takes less memory; otherwise use a smaller model or a larger machine.`,
    { budget, peakBytes: memory.peakBytes, residentBytes: memory.residentBytes, apartBytes: apart.bytes },
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

/** The config keys that make up a choice. */
function keysOf(choice: FitChoice): Partial<RunConfig> {
  const { optimizer } = choice
  return {
    ...shapeOfChoice(choice),
    ...fitChangesOf(choice),
    // Default settings may be absent from a config.
    ...(optimizer && { optimizer: shortOptimizer(optimizer) as RunConfig['optimizer'] }),
  }
}

/** Effect and disk traffic of each setting that differs from the requested one. */
const COSTS: Record<FitOption, (choice: FitChoice) => string> = {
  optimizerInBackward: () => 'updates in the backward pass',
  activationOffloading: ({ memory, activationBytesMoved: moved }) =>
    `activations ${memory.pinnedBytes > 0 ? 'in pinned memory' : 'on disk'}, ${formatBytes(moved)} moved per micro-batch`,
  optimizer: ({ optimizer, stateBytesMoved: bytes }) => {
    const resident = optimizer && 'resident' in optimizer ? ` in ${optimizer.resident}` : ''
    const rounds = optimizer?.type.endsWith('8bit') ? ' (rounds differently)' : ''
    const moved = bytes > 0 ? `, ${formatBytes(bytes)} moved per step` : ''
    return `${optimizer?.type}${resident}${rounds}${moved}`
  },
  pagedWeights: ({ memory, baseBytesRead: read }) =>
    `base in ${formatBytes(memory.bytes('paged_weights'))}${memory.pinnedBytes > 0 ? ' of the card' : ''}, ${formatBytes(read)} ${memory.pinnedBytes > 0 ? 'fetched' : 'read'} per micro-batch`,
}

function costOf(choice: FitChoice): string {
  const changes = Object.keys(COSTS).filter((key) => key in fitChangesOf(choice)) as FitOption[]
  return changes.map((key) => COSTS[key](choice)).join('; ')
}

/** The choices that fit, cheapest first, and the config keys of the best one. */
export function describeFit(
  config: RunConfig,
  { choices }: Fit,
  budget: number,
  apart: Apart,
  columns: number,
): string {
  const [best] = choices as [FitChoice]
  const sequences = best.perDeviceTrainBatchSize * best.gradientAccumulationSteps
  const costs = choices.map(costOf)
  const changed = costs.some((cost) => cost !== '')
  const rows = choices.map((choice, i) => [
    `${choice.perDeviceTrainBatchSize} x ${config.maxSeqLength}`,
    String(choice.gradientAccumulationSteps),
    choice.gradientCheckpointing ? 'yes' : 'no',
    formatBytes(choice.memory.peakBytes),
    `${(choice.multiplyAdds / best.multiplyAdds).toFixed(2)} x`,
    ...(changed ? [costs[i] as string] : []),
  ])
  const names = [
    'at once',
    'accumulated',
    'checkpointing',
    'peak',
    'compute',
    ...(changed ? ['changes'] : []),
  ]
  return [
    `${sequences} sequences per step fit into ${formatBytes(budget)}, including about ${formatBytes(apart.bytes)} for ${apart.what}, with these settings (${changed ? 'fewest changes first, then ' : ''}fastest first):`,
    '',
    fittedTable([names, ...rows], columns, [0, 1, 2, 3, 4]),
    '',
    'Compute counts the multiply-adds of products with base weights, which checkpointing makes again. Micro-batches of few tokens are slower than this suggests, because each reads all weights.',
    ...(changed
      ? [
          'Paging, offloading, and updates in the backward pass give the same results, bit for bit; 8-bit state rounds differently from 32-bit state.',
        ]
      : []),
    '',
    configText(keysOf(best)).trimEnd(),
  ].join('\n')
}
