/** The work of a micro-batch and of an optimizer update by kernel, as printed by `lowrank plan --kernels`. */
import { formatBytes } from '../../core/bytes.js'
import type { StepCounts, WorkCounts } from '../../native/addon.js'
import { formatCount, formatMany } from '../format.js'
import type { Printed } from '../schemas.js'

type Kernels = NonNullable<Printed<'plan'>['kernels']>

type Work = NonNullable<Kernels['update']>

export function kernelsData(counts: StepCounts): Kernels {
  return {
    ...workData(counts),
    uploaded_bytes: counts.uploadedBytes,
    downloaded_bytes: counts.downloadedBytes,
    stashed_bytes: counts.stashedBytes,
    fetched_bytes: counts.fetchedBytes,
    ...(counts.update === undefined ? {} : { update: workData(counts.update) }),
  }
}

/** Launched kernels only, those that move the most bytes first. */
function workData(counts: WorkCounts): Work {
  const launched = counts.kernels.filter(({ launches }) => launches > 0)
  const sum = (of: 'launches' | 'multiplyAdds' | 'bytesMoved') =>
    launched.reduce((total, kernel) => total + kernel[of], 0)
  return {
    launches: sum('launches'),
    multiply_adds: sum('multiplyAdds'),
    bytes_moved: sum('bytesMoved'),
    workspace_bytes: Math.max(0, ...launched.map(({ workspaceBytes }) => workspaceBytes)),
    by_kernel: launched
      .sort((a, b) => b.bytesMoved - a.bytesMoved)
      .map(({ kernel, launches, multiplyAdds, bytesMoved, workspaceBytes }) => ({
        kernel,
        launches,
        multiply_adds: multiplyAdds,
        bytes_moved: bytesMoved,
        workspace_bytes: workspaceBytes,
      })),
  }
}

export function kernelsText(kernels: Kernels): string {
  const { stashed_bytes: stashed, fetched_bytes: fetched, update } = kernels
  const read = Object.entries(kernels.downloaded_bytes).map(
    ([what, bytes]) => `${formatBytes(bytes)} of ${what}`,
  )
  return [
    ...workLines('A micro-batch', kernels),
    '',
    `${formatBytes(kernels.uploaded_bytes)} are uploaded, and the host reads ${read.join(', ')}.`,
    ...(stashed > 0
      ? [`${formatBytes(stashed)} of activations go to the disk, and ${formatBytes(fetched)} come back.`]
      : []),
    ...(update === undefined
      ? ["The optimizer's update is part of the micro-batch."]
      : ['', ...workLines("The optimizer's update, once a step,", update)]),
  ].join('\n')
}

/** Formats work as a sentence and a table. */
function workLines(subject: string, work: Work): string[] {
  const cells = [
    ['kernel', 'launches', 'multiply-adds', 'moved', 'workspace'],
    ...work.by_kernel.map((each) => [
      each.kernel,
      formatCount(each.launches),
      each.multiply_adds > 0 ? formatMany(each.multiply_adds) : '',
      formatBytes(each.bytes_moved),
      each.workspace_bytes > 0 ? formatBytes(each.workspace_bytes) : '',
    ]),
  ]
  const widths = [0, 1, 2, 3, 4].map((i) => Math.max(...cells.map((row) => row[i]?.length ?? 0)))
  const lines = cells.map(([kernel = '', ...rest]) =>
    [kernel.padEnd(widths[0] ?? 0), ...rest.map((cell, i) => cell.padStart(widths[i + 1] ?? 0))]
      .join('   ')
      .trimEnd(),
  )
  const parts = [
    `move ${formatBytes(work.bytes_moved)}`,
    ...(work.multiply_adds > 0 ? [`make ${formatMany(work.multiply_adds)} multiply-adds`] : []),
    ...(work.workspace_bytes > 0 ? [`take at most ${formatBytes(work.workspace_bytes)} of workspace`] : []),
  ]
  const all = parts.length > 2 ? `${parts[0]}, ${parts[1]}, and ${parts[2]}` : parts.join(' and ')
  return [`${subject} launches ${formatCount(work.launches)} kernels, which ${all}:`, '', ...lines]
}
