/** The events of a run, as `lowrank train --json` prints them, and metrics.jsonl, which keeps the same lines. */
import { existsSync } from 'node:fs'
import { type FileHandle, open, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { WriteError } from '../errors.js'
import { writeFileWhole } from '../files/atomic.js'
import type { PlanRow } from '../native/addon.js'

/** One event of a run; a line of JSON. Bytes are integers, losses nats per supervised token, steps count from 1. */
export type TrainEvent =
  | { event: 'plan'; peak_bytes: number; rows: readonly PlanRow[] }
  | {
      event: 'step'
      step: number
      epoch: number
      loss: number
      grad_norm: number
      learning_rate: number
      tokens: number
      supervised_tokens: number
      tokens_per_second: number
    }
  | { event: 'eval'; step: number; loss: number; perplexity: number; tokens: number }
  | { event: 'checkpoint'; step: number; path: string }
  | {
      event: 'done'
      output_dir: string | null
      train_loss: number
      steps: number
      peak_rss_bytes: number
      tokens_per_second: number
    }

const FILE = 'metrics.jsonl'

/** Appends events to metrics.jsonl of a run. */
export class MetricsFile {
  readonly #handle: FileHandle
  readonly #path: string

  private constructor(path: string, handle: FileHandle) {
    this.#path = path
    this.#handle = handle
  }

  /**
   * Opens the file of an output folder, which must exist.
   * @param resumedStep lines up to this step are kept, later ones (of work that is about to be done again) dropped;
   * null starts anew
   */
  static async open(folder: string, resumedStep: number | null): Promise<MetricsFile> {
    const path = join(folder, FILE)
    const kept =
      resumedStep === null || !existsSync(path) ? [] : keptLines(await readFile(path, 'utf8'), resumedStep)
    await writeFileWhole(path, kept.map((line) => `${line}\n`).join(''))
    return new MetricsFile(path, await open(path, 'a'))
  }

  /** @throws {WriteError} when the disk refuses */
  async append(event: TrainEvent): Promise<void> {
    try {
      await this.#handle.appendFile(`${JSON.stringify(event)}\n`)
    } catch (cause) {
      const reason = (cause as NodeJS.ErrnoException).code ?? 'unknown error'
      throw new WriteError(
        `cannot append to ${this.#path}: ${(cause as Error).message}`,
        { path: this.#path, reason },
        { cause },
      )
    }
  }

  async close(): Promise<void> {
    await this.#handle.close()
  }
}

/** A killed process may have left half a line at the end. */
function keptLines(text: string, lastStep: number): string[] {
  return text.split('\n').filter((line) => {
    try {
      const event = JSON.parse(line) as { event?: unknown; step?: unknown }
      return event.event === 'plan' || (typeof event.step === 'number' && event.step <= lastStep)
    } catch {
      return false
    }
  })
}
