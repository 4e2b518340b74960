/** Planned memory in printable form: peak bytes by category for a run, a model, or an operation. */
import { badArgument, checkedWord } from '../core/arguments.js'
import { formatBytes } from '../core/bytes.js'
import { CATEGORIES, type Category, type PlanMoment, type PlanReport, type PlanRow } from '../native/addon.js'

/** Memory in use at the peak of a plan. The rows add up to `peakBytes`. */
export class MemoryReport {
  /** Peak device memory, in bytes. */
  readonly peakBytes: number
  /** Pinned host memory used alongside a GPU, in bytes. */
  readonly pinnedBytes: number
  readonly rows: readonly PlanRow[]
  /**
   * Size of the arena shared by activations, loss, and workspace, and by gradients that are applied during the backward
   * pass, in bytes.
   */
  readonly arenaBytes: number
  /** Position of the peak in the model, e.g. `backward model.layers.29.mlp`. */
  readonly peakAt: string
  readonly trainableParameters: number
  /** Parameters of base and adapter combined. */
  readonly totalParameters: number
  /** Bytes of a paged base that each micro-batch reads from disk, or on a GPU from pinned memory. */
  readonly pagedReadBytes: number
  /** Bytes of offloaded activations on disk, or on a GPU in pinned memory, which each micro-batch writes and reads. */
  readonly offloadedBytes: number
  /**
   * Bytes of paged optimizer state on disk, or on a GPU in pinned memory, which each optimizer step reads and writes.
   */
  readonly pagedStateBytes: number
  /**
   * Whether file pages are released as soon as they are no longer needed, as on Linux. On other systems the OS decides,
   * so a run with paged weights, paged state, or offloaded activations may use more memory than planned.
   */
  readonly dropsPages: boolean
  readonly #report: PlanReport
  #timeline: readonly PlanMoment[] | undefined

  /** @internal */
  constructor(report: PlanReport) {
    if (!Array.isArray(report?.rows))
      throw badArgument(
        report,
        'MemoryReport',
        'report',
        'a plan; planModel() and model.memory return reports',
      )
    this.#report = report
    this.peakBytes = report.peakBytes
    this.pinnedBytes = report.pinnedBytes ?? 0
    this.rows = report.rows
    this.arenaBytes = report.arenaBytes
    this.peakAt = report.peakAt
    this.trainableParameters = report.trainableParameters
    this.totalParameters = report.totalParameters
    this.pagedReadBytes = report.pagedReadBytes
    this.offloadedBytes = report.offloadedBytes
    this.pagedStateBytes = report.pagedStateBytes
    this.dropsPages = report.dropsPages
  }

  /** The steps of the largest plan in execution order, with the arena bytes in use at each. */
  get timeline(): readonly PlanMoment[] {
    this.#timeline ??= this.#report.timeline
    return this.#timeline
  }

  /** Bytes held throughout: everything except the arena. */
  get residentBytes(): number {
    return this.peakBytes - this.arenaBytes
  }

  /**
   * Bytes of one category at the peak; 0 if it has no row.
   * @throws {ConfigError} for an unknown category
   */
  bytes(category: Category): number {
    checkedWord(category, CATEGORIES, 'bytes()', 'category')
    return this.rows.find((row) => row.category === category)?.bytes ?? 0
  }

  get #usesDisk(): boolean {
    const paged = this.bytes('paged_weights') + this.offloadedBytes + this.pagedStateBytes
    return this.pinnedBytes === 0 && paged > 0
  }

  /** A table with one line per category and the total. */
  toString(): string {
    const split = this.pinnedBytes > 0
    const rows = this.rows.filter((row) => row.bytes + (row.pinnedBytes ?? 0) > 0)
    const lines = [
      ...rows.map(({ category, bytes, pinnedBytes = 0 }) => [category, bytes, pinnedBytes] as const),
      ['peak', this.peakBytes, this.pinnedBytes] as const,
    ]
    const width = Math.max(...lines.map(([label]) => label.length))
    const body = lines.map(([label, bytes, pinned]) => {
      const share = this.peakBytes > 0 ? Math.round((100 * bytes) / this.peakBytes) : 0
      const beside = split ? `  ${(pinned > 0 ? formatBytes(pinned) : '').padStart(11)}` : ''
      return `${label.padEnd(width)}  ${formatBytes(bytes).padStart(10)}  ${String(share).padStart(3)} %${beside}`.trimEnd()
    })
    body.splice(-1, 0, '-'.repeat(width + 19 + (split ? 13 : 0)))
    const [place, reads] = split ? ['in pinned memory', 'fetches'] : ['on disk', 'reads']
    return [
      ...(split ? [`${''.padEnd(width)}  ${'on the card'.padStart(10)}${'pinned host'.padStart(19)}`] : []),
      ...body,
      ...(this.peakAt ? [`at ${this.peakAt}`] : []),
      ...(this.bytes('paged_weights') > 0
        ? [
            split
              ? `paged_weights pass through the card; ${formatBytes(this.pagedReadBytes)} are fetched for each micro-batch`
              : `paged_weights are pages of a file; ${formatBytes(this.pagedReadBytes)} are read for each micro-batch`,
          ]
        : []),
      ...(this.offloadedBytes > 0
        ? [
            `${formatBytes(this.offloadedBytes)} of activations are ${place}; each micro-batch writes and ${reads} them`,
          ]
        : []),
      ...(this.pagedStateBytes > 0
        ? [
            `${formatBytes(this.pagedStateBytes)} of optimizer state are ${place}; each step ${reads} and writes them`,
          ]
        : []),
      ...(this.#usesDisk && !this.dropsPages
        ? [
            'this system may keep pages of files in memory after their use, so a run can hold more than this peak',
          ]
        : []),
    ].join('\n')
  }
}
