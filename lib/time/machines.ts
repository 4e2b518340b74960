/**
 * Named machines whose measurements come with the package: machines/NAME.json, created by benchmarks/machine.mjs on the
 * machine.
 */
import { readdirSync, readFileSync } from 'node:fs'
import { basename, join } from 'node:path'
import * as z from 'zod'
import { ConfigError } from '../core/errors.js'
import { nearest } from '../core/nearest.js'
import { packageRoot } from '../core/root.js'
import type { StorageFormat } from '../native/addon.js'
import type { StepSetting } from '../planning/step-setting.js'
import type { StrategyConfig } from '../strategies/strategy.js'
import { STORAGE_FORMATS } from '../weights/weights.js'
import type { StepRates } from './estimate.js'
import type { LaidOut } from './setting.js'

const rate = z.number().positive()

const machineFile = z.object({
  version: z.literal(1),
  cpu: z.string(),
  level: z.string(),
  threads: z.int().positive(),
  prefers_bf16: z.boolean(),
  /** Rates of LoRA in each setting, as in `StepRates`. */
  settings: z
    .array(
      z.object({
        format: z.string(),
        precision: z.enum(['f32', 'bf16']),
        hidden_size: z.int().positive(),
        length: z.int().positive(),
        blocks: rate,
        head: rate,
        token_seconds: z.number().nonnegative(),
        update_seconds: z.number().nonnegative(),
      }),
    )
    .min(1),
  /** Times of the blocks with other strategies, relative to LoRA's. */
  strategies: z.record(z.string(), rate),
})

/** The measurements of a machine, as in its file. */
export type MachineFile = z.infer<typeof machineFile>

export interface Machine extends MachineFile {
  name: string
}

const FOLDER = join(packageRoot, 'machines')

export function machineNames(): string[] {
  return readdirSync(FOLDER)
    .filter((file) => file.endsWith('.json'))
    .map((file) => basename(file, '.json'))
    .sort()
}

/** @throws {ConfigError} for an unknown name, listing the known ones */
export function machineNamed(name: string): Machine {
  const names = machineNames()
  if (!names.includes(name)) {
    const near = nearest(name, names)
    throw new ConfigError(
      `machine '${name}' is unknown${near === undefined ? '' : `; did you mean ${near}?`}; expected one of ${names.join(', ')}. Without --machine, this machine is measured.`,
      { machine: name, known: names },
    )
  }
  return { name, ...machineFile.parse(JSON.parse(readFileSync(join(FOLDER, `${name}.json`), 'utf8'))) }
}

/** Measured formats; any other is about as fast as one of these. */
export const MEASURED_FORMATS = [
  'f32',
  'bf16',
  'nf4_double',
  'int8',
  'q4_1',
] as const satisfies StorageFormat[]

function standIn(format: string): (typeof MEASURED_FORMATS)[number] {
  if (format === 'f16') return 'bf16'
  if (format.startsWith('nf4') || format.startsWith('fp4')) return 'nf4_double'
  return MEASURED_FORMATS.find((one) => one === format) ?? 'q4_1'
}

/** The rates of a setting on a machine: those of the closest measured setting. */
export function ratesOn(machine: Machine, setting: StepSetting, { graph, formats }: LaidOut): StepRates {
  const { precision, options, config, strategy } = setting
  const format = standIn(mostHeld(graph.weights, formats))
  const distance = (one: MachineFile['settings'][number]) =>
    (one.precision === precision ? 0 : 1e6) +
    (one.format === format ? 0 : 1e3) +
    Math.abs(Math.log2(one.hidden_size / (config.hidden_size as number))) +
    Math.abs(Math.log2(one.length / options.maxSeqLength))
  const near = machine.settings.reduce((least, one) => (distance(one) < distance(least) ? one : least))
  const slowness = machine.strategies[innermost(strategy)] ?? 1
  return {
    blocks: near.blocks / slowness,
    head: near.head,
    tokenSeconds: near.token_seconds,
    updateSeconds: options.optimizerInBackward ? 0 : near.update_seconds,
  }
}

/** The format of most elements in the blocks. */
function mostHeld(weights: LaidOut['graph']['weights'], formats: LaidOut['formats']): string {
  const numbers = new Map(STORAGE_FORMATS.map((format) => [format as string, 0]))
  for (const { name, rows, cols, kind } of weights) {
    const format = formats[name] as string
    if (kind === 'matrix') numbers.set(format, (numbers.get(format) ?? 0) + rows * cols)
  }
  return [...numbers].reduce((most, one) => (one[1] > most[1] ? one : most))[0]
}

/** The innermost adapter of a wrapping strategy. */
export function innermost(strategy: StrategyConfig): string {
  return 'adapter' in strategy ? innermost(strategy.adapter as StrategyConfig) : strategy.name
}
