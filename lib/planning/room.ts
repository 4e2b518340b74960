/**
 * Whether a planned run fits into the memory that is free, and what would make it smaller. Weights and optimizer state
 * that are paged are not in a plan's peak, so they do not count.
 */
import { formatBytes } from '../core/bytes.js'
import { OutOfMemoryError } from '../core/errors.js'
import type { Category } from '../native/addon.js'
import { rulesOf } from '../strategies/index.js'
import type { StrategyConfig } from '../strategies/strategy.js'
import type { MemoryReport } from './memory-report.js'

/**
 * A run that needs more than this many times what is free is refused. Below it a run may still pass, slowly: other
 * programs end, the system swaps, and pages of the arena that no batch fills are never taken. Together these rarely make
 * up for half of a plan.
 */
export const FAR = 2

/** Settings of a run that its memory depends on, so that none is advised that is already on. */
export interface MemorySettings {
  strategy: StrategyConfig
  perDeviceTrainBatchSize: number
  maxSeqLength: number
  gradientCheckpointing: boolean
  activationOffloading: boolean
  /** Null for the default. */
  optimizer: string | { readonly type: string } | null
  /** `none` for weights that are not quantized. */
  quantization: string
  embeddingQuantization: string
}

/** Kinds of memory, by what makes them smaller. */
const KINDS = {
  base: ['weights', 'quantization_constants', 'paged_weights'],
  trained: ['adapters', 'gradients', 'optimizer'],
  step: ['activations', 'kv_cache', 'loss', 'workspace'],
} as const satisfies Record<string, readonly Category[]>
type Kind = keyof typeof KINDS

const WORDS: Record<Kind, string> = {
  base: 'the base model',
  trained: 'what trains and its optimizer state',
  step: 'the activations of a micro-batch',
}

const ADVICE: Record<Kind, (settings: MemorySettings, memory: MemoryReport) => string[]> = {
  base: ({ strategy, quantization, embeddingQuantization }, memory) => [
    ...(trainsBase(strategy)
      ? ['an adapter in place of full fine-tuning']
      : quantization === 'none'
        ? ['quantization: nf4']
        : embeddingQuantization === 'none'
          ? ['embedding_quantization: nf4']
          : []),
    ...(memory.bytes('paged_weights') === 0 && !trainsBase(strategy) ? ['paged_weights: true'] : []),
    'a smaller model',
  ],
  trained: ({ strategy, optimizer }) => {
    const type = typeof optimizer === 'string' ? optimizer : (optimizer?.type ?? 'adamw')
    return [
      ...(type === 'adamw' ? ['optimizer: paged_adamw_8bit'] : []),
      trainsBase(strategy)
        ? 'an adapter in place of full fine-tuning'
        : 'a lower rank, or fewer target_modules',
    ]
  },
  step: ({ perDeviceTrainBatchSize: batch, maxSeqLength, gradientCheckpointing, activationOffloading }) => [
    ...(batch > 1 ? [`per_device_train_batch_size below ${batch}`] : []),
    `max_seq_length below ${maxSeqLength}`,
    ...(gradientCheckpointing ? [] : ['gradient_checkpointing: true']),
    ...(gradientCheckpointing && !activationOffloading ? ['activation_offloading: true'] : []),
  ],
}

const trainsBase = (strategy: StrategyConfig) => rulesOf(strategy).saves === 'model'

/** What most of the memory is for, and the settings that lower it: `8.0 GiB are for …: a, b, or c takes less.` */
export function memoryAdvice(memory: MemoryReport, settings: MemorySettings): string {
  const bytesOf = (kind: Kind) => KINDS[kind].reduce((sum, category) => sum + memory.bytes(category), 0)
  const [kind] = (Object.keys(KINDS) as Kind[]).sort((a, b) => bytesOf(b) - bytesOf(a)) as [Kind]
  const options = ADVICE[kind](settings, memory)
  return `${formatBytes(bytesOf(kind))} of it are for ${WORDS[kind]}; ${listed(options)} takes less.`
}

function listed(options: readonly string[]): string {
  const [last = '', ...others] = [...options].reverse()
  if (others.length < 2) return [...others, last].join(' or ')
  return `${others.reverse().join(', ')}, or ${last}`
}

/** Memory that a run needs, and what there is of it, in bytes. */
export interface Room {
  /** Bytes that the run has yet to take. */
  needed: number
  /** Bytes that are free on this machine or, with a memory limit, to this container. */
  available: number
}

/**
 * @param wayOn how to find settings that fit, and how to train all the same
 * @throws {OutOfMemoryError} when the run needs far more memory than there is
 */
export function checkRoom(
  memory: MemoryReport,
  { needed, available }: Room,
  settings: MemorySettings,
  wayOn: string,
): void {
  if (needed <= FAR * available) return
  throw new OutOfMemoryError(
    `this run needs ${formatBytes(needed)} of memory, and ${formatBytes(available)} are free. ${memoryAdvice(memory, settings)} ${wayOn}`,
    { needed, available, peakBytes: memory.peakBytes },
  )
}
