/** What `bench memory` and `figures memory` share: flags, and how what they measured is told. */
import type { Command } from 'commander'
import { formatBytes } from '../memory.js'
import type { MemoryBar, MemorySettings } from '../report/memory.js'
import { asInFiles } from '../train/config-schema.js'
import { table } from './format.js'
import { integerFlag, names } from './help.js'

export interface MemoryOptions {
  methods: string[]
  rank: number
  batch: number
  seqLen: number
  gradientCheckpointing: boolean
  precision: MemorySettings['precision']
}

export function memoryFlags(command: Command): void {
  command.option(
    '--methods <names>',
    'strategies over 16-bit weights, full-in-backward, qlora, qlora-8bit, qlora-paged, qlora-int8-embedding or qlora-nf4-embedding, with commas between',
    names,
    ['full', 'lora', 'qlora', 'qlora-8bit', 'qlora-paged'],
  )
  command.option('--rank <r>', 'of memory: rank of the adapters', integerFlag(1), 16)
  command.option('--batch <N>', 'of memory: sequences at once', integerFlag(1), 1)
  command.option('--seq-len <N>', 'of memory: tokens of a sequence', integerFlag(2), 512)
  command.option('--no-gradient-checkpointing', 'of memory: keep all activations')
  command.option('--precision <type>', 'of memory: auto, fp32 or bf16', 'auto')
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

export function memoryTable(bars: readonly MemoryBar[]): string {
  return table([
    ['method', 'planned', 'measured', 'ratio', 'while loading', 'anonymous', 'file pages'],
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
            ],
          ],
    ),
  ])
}
