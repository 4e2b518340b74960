/** Flags and output shared by `bench memory` and `figures memory`. */
import { type Command, InvalidArgumentError, Option } from 'commander'
import { formatBytes } from '../core/bytes.js'
import { METHOD_NAMES, type MemoryBar, type MemorySettings } from '../laboratory/memory.js'
import { asInFiles } from '../train/config-schema.js'
import { fittedTable } from './format.js'
import { integerFlag, names } from './help.js'

export interface MemoryOptions {
  methods: string[]
  rank: number
  batch: number
  seqLen: number
  gradientCheckpointing: boolean
  precision: MemorySettings['precision']
}

/**
 * @param of prefix of the flags' descriptions, such as `memory: `, in a verb that also has other flags
 * @param training prefix for the flags about training
 */
export function memoryFlags(command: Command, of: string, training: string): void {
  command.option(
    '--methods <names>',
    `${training}strategies over 16-bit weights, full-in-backward, qlora, qlora-8bit, qlora-paged, qlora-int8-embedding, or qlora-nf4-embedding, separated by commas`,
    methodNames,
    ['full', 'lora', 'qlora', 'qlora-8bit', 'qlora-paged'],
  )
  command.option('--rank <r>', `${of}rank of the adapters`, integerFlag(1), 16)
  command.option('--batch <N>', `${of}sequences per batch`, integerFlag(1), 1)
  command.option('--seq-len <N>', `${of}tokens per sequence`, integerFlag(2), 512)
  command.option('--no-gradient-checkpointing', `${training}keep all activations`)
  command.addOption(
    new Option('--precision <type>', `${of}precision of matrix operands`)
      .choices(['auto', 'fp32', 'bf16'])
      .default('auto'),
  )
}

function methodNames(text: string): string[] {
  const list = names(text)
  const unknown = list.find((name) => !METHOD_NAMES.includes(name))
  if (unknown === undefined) return list
  throw new InvalidArgumentError(`There is no '${unknown}'; expected some of ${METHOD_NAMES.join(', ')}.`)
}

export function memorySettings(options: MemoryOptions): MemorySettings {
  const { rank, batch, seqLen, gradientCheckpointing, precision } = options
  return { rank, perDeviceTrainBatchSize: batch, maxSeqLength: seqLen, gradientCheckpointing, precision }
}

export function barData({ model, method, plannedBytes, rows, measured }: MemoryBar) {
  return {
    ...{ model, method, planned_bytes: plannedBytes, rows },
    ...(measured ? { measured: asInFiles(measured) } : {}),
  }
}

export function memoryTable(bars: readonly MemoryBar[], columns: number): string {
  const rows = [
    [
      'method',
      'planned',
      'measured',
      'ratio',
      'while loading',
      'anonymous',
      'file pages',
      'PSS',
      'weights cached',
    ],
    ...bars.flatMap(({ method, plannedBytes, measured }) =>
      measured === undefined
        ? []
        : [
            [
              method,
              formatBytes(plannedBytes),
              formatBytes(measured.peakBytes),
              (measured.peakBytes / plannedBytes).toFixed(2),
              formatBytes(measured.loadPeakBytes),
              formatBytes(measured.anonymousBytes),
              formatBytes(measured.fileBytes),
              `${formatBytes(measured.pssAnonymousBytes)} + ${formatBytes(measured.pssFileBytes)}`,
              measured.cachedWeightBytes === undefined ? '' : formatBytes(measured.cachedWeightBytes),
            ],
          ],
    ),
  ]
  return fittedTable(rows, columns)
}
