/**
 * The options that determine a run's memory use: the single list from which config files, the API, and the flags of
 * `lowrank plan` take their keys.
 */

import type * as z from 'zod'
import { flag, parseBytes, text } from '../core/schema.js'
import { pagedWeightsSchema } from '../weights/options.js'
import { optimizerSchema } from './optimizers.js'
import type { MemoryShape, TrainingMemory } from './types.js'

interface MemoryOption {
  schema: z.ZodType
  /** Flag of `lowrank plan`. */
  flag: string
  help: string
  /** Another option that this one requires, and what to do if it is missing. */
  needs?: { option: keyof MemoryShape; else: string }
  /** True if `lowrank plan --fit` may change it. */
  fits?: true
  /** True if the time of a micro-batch depends on it. */
  timed?: true
  /** True if it does not affect results, so an interrupted run may resume with another value. */
  exact?: true
}

/** To add an option, add an entry here, and handle it in the plans of a run. */
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
    timed: true,
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
    timed: true,
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
    timed: true,
  },
  pagedWeights: {
    schema: pagedWeightsSchema,
    flag: '--paged-weights [size]',
    help: 'keep the weights in a file, with at most this much of them in memory, such as 2GiB (default: chosen)',
    fits: true,
  },
} satisfies Record<keyof MemoryShape, MemoryOption>

/** The options as a list of entries. */
export const memoryOptions = Object.entries(MEMORY_OPTIONS) as [keyof MemoryShape, MemoryOption][]

type Options = typeof MEMORY_OPTIONS

/** Options that `lowrank plan --fit` may change. */
export type FitOption = {
  [Key in keyof Options]: Options[Key] extends { fits: true } ? Key : never
}[keyof Options]

/** The `--fit` options set in a shape. */
export function fitChangesOf(
  shape: Partial<Pick<MemoryShape, FitOption>>,
): Partial<Pick<MemoryShape, FitOption>> {
  const set = memoryOptions.filter(([key, { fits }]) => fits && shape[key as FitOption])
  return Object.fromEntries(set.map(([key]) => [key, shape[key as FitOption]]))
}

/** Values of the options on which the time of a micro-batch depends. */
export function timedOptions(options: Omit<TrainingMemory, 'activationOffloading'>): unknown[] {
  return memoryOptions.flatMap(([key, { timed }]) => (timed ? [options[key as keyof typeof options]] : []))
}

type Schemas = { [Key in keyof MemoryShape]: (typeof MEMORY_OPTIONS)[Key]['schema'] }

/** Schemas by key. */
export const memorySchemas = Object.fromEntries(
  memoryOptions.map(([key, { schema }]) => [key, schema]),
) as Schemas

/** The schemas without `pagedWeights`, which applies when the model is loaded, before training. */
export const { pagedWeights: _, ...trainingMemory } = memorySchemas

/** Picks the memory options from a run's options. */
export function memoryShapeOf(options: MemoryShape): MemoryShape {
  return Object.fromEntries(memoryOptions.map(([key]) => [key, options[key]])) as unknown as MemoryShape
}
