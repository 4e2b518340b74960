/** The events of a run as JSON lines, as printed by `lowrank train --json` and stored in metrics.jsonl. */
import { existsSync } from 'node:fs'
import { appendFile, open, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { snakeKey } from '../../core/schema.js'
import { codeOf, fromSystem } from '../../core/system-error.js'
import { writeFileWhole } from '../../io/atomic.js'
import { GrowingFile } from '../../io/growing-file.js'
import type { Samples } from '../answers/samples.js'
import { METRICS_FILE } from '../folders/output-folder.js'
import type { TrainEvent, TrainStep } from '../steps/events.js'
import type { TrainingState } from '../steps/step.js'
import { type MetricsLine, rowData, type TrainLine } from './event-schemas.js'

/**
 * An event as a JSON line: keys in snake_case, fields of a private round at the top level, and null for a
 * non-finite loss.
 */
export function lineOf(event: TrainEvent): TrainLine {
  const { privacy, ...told } = recorded(event) as TrainStep
  const spelled = (fields: object): object =>
    Object.fromEntries(
      Object.entries(fields).map(([key, value]) => [
        snakeKey(key),
        key === 'best'
          ? spelled(value)
          : event.event === 'plan' && key === 'rows'
            ? event.rows.map(rowData)
            : Number.isNaN(value)
              ? null
              : value,
      ]),
    )
  const round = event.event === 'step' ? privacy : privacy && { privacy }
  return { ...spelled(told), ...round, time: now() } as TrainLine
}

/** A larger confusion matrix would fill the log, and no page could show it. */
const MOST_CLASSES = 100

/** Of a classifier, leaves out the perplexity, which means nothing, and a confusion matrix that is too large. */
function recorded(event: TrainEvent): object {
  if (event.event !== 'eval' || event.confusionMatrix === undefined) return event
  const { perplexity: _, confusionMatrix, ...told } = event
  return confusionMatrix.length > MOST_CLASSES ? told : { ...told, confusionMatrix }
}

/** Seconds since 1970, to the millisecond. */
function now(): number {
  return Date.now() / 1000
}

/** More bytes than its last two lines can have. */
const TAIL = 1 << 20

/** True if the last run in a folder has ended; undefined without an event log. */
export async function hasEnded(runDir: string): Promise<boolean | undefined> {
  const file = await open(join(runDir, METRICS_FILE)).catch(() => undefined)
  if (file === undefined) return undefined
  try {
    const { size } = await file.stat()
    const bytes = Buffer.alloc(Math.min(size, TAIL))
    await file.read(bytes, 0, bytes.length, size - bytes.length)
    const last = bytes.toString('utf8').trimEnd().split('\n').slice(-2)
    const after = last.at(-1)?.startsWith('{"event":"samples"') ? last[0] : last.at(-1)
    return after?.includes('"event":"done"')
  } finally {
    await file.close()
  }
}

/** Appends events to a run's metrics.jsonl. */
export class MetricsFile {
  readonly #file: GrowingFile

  private constructor(file: GrowingFile) {
    this.#file = file
  }

  /**
   * Opens the file of an output folder, which must exist.
   * @param resumed keeps the lines of work up to this state and drops those of work to be redone; null starts a
   * new file
   */
  static async open(
    folder: string,
    resumed: Pick<TrainingState, 'step' | 'evaluations'> | null,
  ): Promise<MetricsFile> {
    const path = join(folder, METRICS_FILE)
    const kept = resumed === null || !existsSync(path) ? [] : keptLines(await readFile(path, 'utf8'), resumed)
    await writeFileWhole(path, kept.map((line) => `${line}\n`).join(''))
    return new MetricsFile(await GrowingFile.open(path))
  }

  /** @throws {WriteError} when writing fails */
  append(event: TrainEvent): Promise<void> {
    return this.#append(lineOf(event))
  }

  /** Records the failure of a run. If this write fails too, the original error is kept. */
  async fail(caught: unknown, step: number): Promise<void> {
    const error = fromSystem(caught)
    const code = codeOf(error)
    const message = error instanceof Error ? error.message : String(error)
    await this.#append({ event: 'error', step, code, message, time: now() }).catch(() => undefined)
  }

  #append(line: MetricsLine): Promise<void> {
    return this.#file.append(`${JSON.stringify(line)}\n`)
  }

  /** Makes all lines so far durable. */
  sync(): Promise<void> {
    return this.#file.sync()
  }

  async close(): Promise<void> {
    await this.#file.close()
  }
}

/** Appends the answers after a run to its event log. */
export async function recordSamples(runDir: string, { heldOut, rows, classified }: Samples): Promise<void> {
  const line: MetricsLine = {
    ...{ event: 'samples', held_out: heldOut, rows: [...rows] },
    ...(classified === undefined ? {} : { classified }),
    time: now(),
  }
  await appendFile(join(runDir, METRICS_FILE), `${JSON.stringify(line)}\n`)
}

/**
 * The valid lines of a run's event log. Skips partial lines of a killed process and anything else that is not
 * an event.
 */
export async function readMetrics(runDir: string): Promise<MetricsLine[]> {
  const text = await readFile(join(runDir, METRICS_FILE), 'utf8')
  return text.split('\n').flatMap((line) => {
    try {
      const read = JSON.parse(line) as MetricsLine | null
      return typeof read?.event === 'string' ? [read] : []
    } catch {
      return []
    }
  })
}

/** The lines to keep when a run is resumed. A killed process may have left a partial line at the end. */
function keptLines(
  text: string,
  { step: lastStep, evaluations }: Pick<TrainingState, 'step' | 'evaluations'>,
): string[] {
  return text.split('\n').filter((line) => {
    try {
      const event = JSON.parse(line) as { event?: unknown; step?: unknown; resumed_from?: number | null }
      if (event.event === 'start') return (event.resumed_from ?? 0) <= lastStep
      if (event.event === 'eval' || event.event === 'answers')
        return evaluations.some(({ step }) => step === event.step)
      if (event.event === 'rate' || event.event === 'plan') return true
      return typeof event.step === 'number' && event.step <= lastStep
    } catch {
      return false
    }
  })
}
