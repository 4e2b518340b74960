/** Planned memory, printable: what a run, a model or an operation will hold at its peak, by category. */
import { badArgument, checkedWord } from '../core/arguments.js'
import { formatBytes } from '../core/bytes.js'
import { CATEGORIES, type Category, type PlanMoment, type PlanReport, type PlanRow } from '../native/addon.js'

/** The bytes live at the peak of a plan. The rows add up to `peakBytes`. */
export class MemoryReport {
  /** Bytes of the device's memory. */
  readonly peakBytes: number
  /** Bytes of pinned memory of the host, beside a GPU. */
  readonly pinnedBytes: number
  readonly rows: readonly PlanRow[]
  /**
   * Bytes of the one arena that activations, loss and workspace share, with gradients that are used up in the backward
   * pass.
   */
  readonly arenaBytes: number
  /** Position of the peak in the model, e.g. `backward model.layers.29.mlp`. */
  readonly peakAt: string
  readonly trainableParameters: number
  /** Parameters of base and adapter together. */
  readonly totalParameters: number
  /** Bytes of a paged base that each micro-batch reads from the disk, or on a GPU fetches from pinned memory. */
  readonly pagedReadBytes: number
  /** Bytes of offloaded activations on the disk, or in pinned memory, which each micro-batch writes and reads. */
  readonly offloadedBytes: number
  /** Bytes of paged optimizer state on the disk, or in pinned memory, which each optimizer step reads and writes. */
  readonly pagedStateBytes: number
  /**
   * Pages of files leave memory as soon as they are not needed, as on Linux. Elsewhere the system keeps them for as long as it
   * likes, so a run with paged weights, paged state, or offloaded activations may hold more than planned.
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

  /** The steps of the largest of its plans, as it runs, with the bytes of the arena that are live at each. */
  get timeline(): readonly PlanMoment[] {
    this.#timeline ??= this.#report.timeline
    return this.#timeline
  }

  /** Bytes that are held throughout: all but the arena. */
  get residentBytes(): number {
    return this.peakBytes - this.arenaBytes
  }

  /**
   * Bytes of one category at the peak; 0 for one that has no row.
   * @throws {ConfigError} for a name that no category has
   */
  bytes(category: Category): number {
    checkedWord(category, CATEGORIES, 'bytes()', 'category')
    return this.rows.find((row) => row.category === category)?.bytes ?? 0
  }

  get #usesDisk(): boolean {
    const paged = this.bytes('paged_weights') + this.offloadedBytes + this.pagedStateBytes
    return this.pinnedBytes === 0 && paged > 0
  }

  /** A table with a line per category and the sum. */
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
