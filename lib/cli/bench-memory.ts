/** Output of `bench memory`: a method's numbers as data, and the table of what was measured. */
import type { MemoryBar } from '../bench/memory.js'
import { formatBytes } from '../core/bytes.js'
import { asInFiles } from '../train/config/config-schema.js'
import { fittedTable } from './format.js'

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
    ...bars.map(({ model, method, plannedBytes, measured }) =>
      measured === undefined
        ? [`${model}, ${method}`, formatBytes(plannedBytes), '', '', '', '', '', '', '']
        : [
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
    ),
  ]
  return fittedTable(rows, columns)
}
