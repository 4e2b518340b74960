/**
 * The options that decide what a run holds in memory, and how: one list, which gives config files, the API and the
 * flags of `lowrank plan` their keys.
 */
import type * as z from 'zod'
import { flag, parseBytes, text } from '../core/schema.js'
import { pagedWeightsSchema } from '../weights/options.js'
import { type Optimizer, optimizerSchema } from './optimizers.js'

/** Memory options of training. */
export interface TrainingMemory {
  /**
   * By name, or with settings as `adamW({ … })`, `adamW8bit({ … })`, `lion({ … })` and the others return. Default null:
   * adamw, which `qlora` makes paged_adamw where memory is short.
   */
  readonly optimizer: Optimizer['type'] | Optimizer | null
  /**
   * Update each tensor in the backward pass as soon as its gradient is whole, so that gradients never take memory all
   * at once. Needs `gradientAccumulationSteps` of 1 and `maxGradNorm` of 0. Default false.
   */
  readonly optimizerInBackward: boolean
  /** Recompute each block in the backward pass instead of keeping its activations. Default true. */
  readonly gradientCheckpointing: boolean
  /** With gradient checkpointing: the inputs of the blocks wait for the backward pass on the disk. Default false. */
  readonly activationOffloading: boolean
  /** With gradient checkpointing: what attention gives is kept, so that it is not computed again. Default false. */
  readonly keepAttention: boolean
  /** Logits that the loss may form at a time, as in `16MiB`; at least those of 16 tokens. Default `auto`: 48MiB, on a GPU 256MiB. */
  readonly logitsMemory: string
}

/** Options that decide what a run holds in memory. */
export interface MemoryShape extends TrainingMemory {
  /** As of `loadModel`. */
  readonly pagedWeights: boolean | string
}

interface MemoryOption {
  schema: z.ZodType
  /** Flag of `lowrank plan`. */
  flag: string
  help: string
  /** An option that this one requires, and the advice if it is missing. */
  needs?: { option: keyof MemoryShape; else: string }
  /** True if `lowrank plan --fit` may set it otherwise than asked for. */
  fits?: true
  /** It changes no number, so that an interrupted run may go on with another value. */
  exact?: true
}

/** A new option is a line here and in `TrainingMemory`, and what the plans of a run make of it. */
export const MEMORY_OPTIONS = {
  optimizer: {
    schema: optimizerSchema
      .nullable()
      .default(null)
      .describe(
        'Optimizer, by name or with settings. `null`: `adamw`, or `paged_adamw` with `qlora` if memory is short.',
      ),
    flag: '--optimizer <type>',
    help: 'adamw, paged_adamw_8bit, lion, …',
    fits: true,
  },
  optimizerInBackward: {
    schema: flag()
      .default(false)
      .describe(
        'Update each tensor in the backward pass as soon as its gradient is complete, so gradients are never all in memory. The results are the same. Requires `gradient_accumulation_steps: 1` and `max_grad_norm: 0`.',
      ),
    flag: '--optimizer-in-backward',
    help: 'update each tensor in the backward pass, without clipping',
    fits: true,
    exact: true,
  },
  gradientCheckpointing: {
    schema: flag()
      .default(true)
      .describe(
        'Recompute the inside of each block in the backward pass instead of keeping it. Less memory, about one more forward pass, the same results.',
      ),
    flag: '--no-gradient-checkpointing',
    help: 'keep all activations',
  },
  activationOffloading: {
    schema: flag()
      .default(false)
      .describe(
        'With `gradient_checkpointing`: keep the inputs of the blocks in a file in the output folder until the backward pass needs them. The same results.',
      ),
    flag: '--activation-offloading',
    help: 'keep checkpointed activations in a file',
    fits: true,
    needs: {
      option: 'gradientCheckpointing',
      else: 'only what checkpointing keeps is offloaded, so turn it on, or offloading off',
    },
    exact: true,
  },
  keepAttention: {
    schema: flag()
      .default(false)
      .describe(
        'With `gradient_checkpointing`: keep the output of attention, so it is not recomputed. More memory, less time for long sequences, the same results.',
      ),
    flag: '--keep-attention',
    help: 'do not recompute attention',
    needs: {
      option: 'gradientCheckpointing',
      else: 'without checkpointing everything is kept, so turn it on, or keep_attention off',
    },
    exact: true,
  },
  logitsMemory: {
    schema: text('auto or a size such as 16MiB')
      .refine((size) => size === 'auto' || (parseBytes(size) ?? 0) > 0, {
        error: 'auto or a size such as 16MiB',
      })
      .default('auto')
      .describe(
        'Memory for the logits that the loss computes at a time, at least those of 16 tokens. With a large vocabulary, a smaller value lowers the peak and slows down steps. `auto`: 48 MiB on the CPU, 256 MiB on a GPU.',
      ),
    flag: '--logits-memory <size>',
    help: 'memory of logits at a time, such as 16MiB',
  },
  pagedWeights: {
    schema: pagedWeightsSchema,
    flag: '--paged-weights [size]',
    help: 'keep the weights in a file, with at most this much of them in memory, such as 2GiB (default: chosen)',
    fits: true,
  },
} satisfies Record<keyof MemoryShape, MemoryOption>

/** The list, for whoever goes through it. */
export const memoryOptions = Object.entries(MEMORY_OPTIONS) as [keyof MemoryShape, MemoryOption][]

type Options = typeof MEMORY_OPTIONS

/** Options that `lowrank plan --fit` may set. */
export type FitOption = {
  [Key in keyof Options]: Options[Key] extends { fits: true } ? Key : never
}[keyof Options]

/** The options of `--fit` that a shape sets. */
export function fitChangesOf(
  shape: Partial<Pick<MemoryShape, FitOption>>,
): Partial<Pick<MemoryShape, FitOption>> {
  const set = memoryOptions.filter(([key, { fits }]) => fits && shape[key as FitOption])
  return Object.fromEntries(set.map(([key]) => [key, shape[key as FitOption]]))
}

type Schemas = { [Key in keyof MemoryShape]: (typeof MEMORY_OPTIONS)[Key]['schema'] }

/** Schemas by key. */
export const memorySchemas = Object.fromEntries(
  memoryOptions.map(([key, { schema }]) => [key, schema]),
) as Schemas

/** The same without that of weights, which are loaded before training. */
export const { pagedWeights: _, ...trainingMemory } = memorySchemas

/** The memory options of a run's options. */
export function memoryShapeOf(options: MemoryShape): MemoryShape {
  return Object.fromEntries(memoryOptions.map(([key]) => [key, options[key]])) as unknown as MemoryShape
}
