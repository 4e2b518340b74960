/** Flags of `lowrank plan` that replace a config file. */

import type { Command } from 'commander'
import { snakeKey } from '../../core/schema.js'
import { memoryOptions } from '../../options/memory-shape.js'
import type { MemoryShape } from '../../options/types.js'
import { readStrategy } from '../../strategies/index.js'
import type { StrategyConfig } from '../../strategies/strategy.js'
import { type RunConfig, resolveConfig } from '../../train/config/config.js'
import { UsageError } from '../errors.js'
import { integerFlag } from '../help.js'

/** Flags that replace a config file, named like its keys. */
export interface Shape
  extends Partial<Record<Exclude<keyof MemoryShape, 'gradientCheckpointing'>, string | boolean>> {
  model?: string
  method?: string
  rank?: number
  targetModules?: string
  quantization?: string
  embeddingQuantization?: string
  precision?: string
  perDeviceTrainBatchSize?: number
  maxSeqLength?: number
  gradientCheckpointing: boolean
  threads?: number
}

export function shapeFlags(command: Command): void {
  command.option(
    '--model <path>',
    'instead of a config: a model folder, a .gguf file, a lone config.json, or a name on the hub',
  )
  command.option('--method <name>', 'with --model: the strategy (see `lowrank strategies`)')
  command.option('--rank <r>', 'with --model: rank of the adapter', integerFlag(1))
  command.option('--target-modules <names>', 'with --model: linears to adapt, separated by commas')
  command.option('--quantization <type>', 'with --model: none, nf4, fp4, int8, or keep')
  command.option('--embedding-quantization <type>', 'with --model: the same for the embedding and the head')
  command.option('--precision <type>', 'with --model: auto, fp32, or bf16')
  command.option(
    '--batch, --per-device-train-batch-size <N>',
    'with --model: sequences per micro-batch',
    integerFlag(1),
  )
  command.option('--seq-len, --max-seq-length <N>', 'with --model: tokens per sequence', integerFlag(2))
  for (const [, { flag, help }] of memoryOptions) command.option(flag, `with --model: ${help}`)
  command.option('--threads <N>', 'with --model: threads of the machine to plan for', integerFlag(1))
}

/** @throws {UsageError} when a flag is missing or conflicts with others */
export function fromFlags({ model, method, rank, targetModules, ...rest }: Shape): RunConfig {
  if (model === undefined || method === undefined)
    throw new UsageError('pass a config file, or --model and --method.')
  const { quantization, embeddingQuantization, precision, perDeviceTrainBatchSize, maxSeqLength } = rest
  const adapter = {
    ...(rank === undefined ? {} : { rank }),
    ...(targetModules === undefined ? {} : { target_modules: modulesOf(targetModules) }),
  }
  const raw = {
    model,
    strategy: strategyWith(method, adapter),
    quantization,
    embedding_quantization: embeddingQuantization,
    precision,
    per_device_train_batch_size: perDeviceTrainBatchSize,
    max_seq_length: maxSeqLength,
    ...Object.fromEntries(memoryOptions.map(([key]) => [snakeKey(key), rest[key]])),
    ...(rest.optimizerInBackward && { max_grad_norm: 0 }),
    threads: rest.threads,
    // The plan does not depend on the data.
    dataset: 'any',
  }
  const given = Object.entries(raw).filter(([, value]) => value !== undefined)
  return resolveConfig(Object.fromEntries(given), { name: 'plan', spelling: 'snake' }, process.cwd())
}

/** If a strategy wraps another one, options of the adapter go to the inner strategy. */
function strategyWith(
  name: string,
  { rank, ...options }: { rank?: number; target_modules?: string | string[] },
): Record<string, unknown> {
  const defaults = readStrategy({ name }, { name: '--method', spelling: 'snake' })
  const ranks = rank === undefined ? {} : ranksOf(defaults, rank)
  if (!('adapter' in defaults)) return { name, ...ranks, ...options }
  const { name: inner } = defaults.adapter as { name: string }
  return { name, adapter: { name: inner, ...ranks, ...options } }
}

/**
 * A rank as options of a strategy. AdaLoRA's rank decreases during training, so the initial rank determines the
 * memory.
 */
function ranksOf(defaults: StrategyConfig, rank: number): Record<string, number> {
  if (!('targetR' in defaults)) return { r: rank }
  return { init_r: rank, target_r: Math.min(rank, defaults.targetR as number) }
}

function modulesOf(names: string): string | string[] {
  if (names === 'all-linear') return names
  const list = names.split(',').map((name) => name.trim())
  if (list.includes(''))
    throw new UsageError(
      `--target-modules '${names}': expected names separated by commas, as in q_proj,v_proj.`,
    )
  return list
}
