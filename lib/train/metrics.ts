/** The events of a run, as `lowrank train --json` prints them, and metrics.jsonl, which keeps the same lines. */
import { existsSync } from 'node:fs'
import { type FileHandle, open, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import * as z from 'zod'
import { WriteError } from '../core/errors.js'
import { snakeKey } from '../core/schema.js'
import { writeFileWhole } from '../io/atomic.js'
import { cleanUp } from '../io/cleanup.js'
import { CATEGORIES } from '../native/addon.js'
import { METRICS } from '../options/options.js'
import type { PrivacyReport } from '../strategies/privacy-report.js'
import type { TrainEvent, TrainStep } from './events.js'
import type { TrainingState } from './step.js'

const bytes = z.int().nonnegative()
const count = z.int().nonnegative()
const step = z.int().positive().describe('Optimizer steps made so far, from 1')
const stepFromStart = count.describe('Optimizer steps made so far; 0 is before the first')
const share = z.number().min(0).max(1)
const rate = z.number().nonnegative().describe('All tokens processed, per second')

/** The bytes of one category at the peak of a plan, as JSON has them. */
export const planRow = z.object({
  category: z.enum(CATEGORIES),
  bytes: bytes.describe('Bytes of this category at the peak'),
})

/** Guarantee and spending of a private training run, as JSON. */
export const privacyReport = z
  .object({
    epsilon: z.number().describe('ε spent by the rounds so far'),
    delta: z.number(),
    final_epsilon: z.number().describe('ε that all rounds together spend'),
    unit: z.enum(['user', 'example']).describe('Unit of protection'),
    population: count.describe('Number of clients or examples'),
    cohort: count.describe('Expected number of them in a round'),
    sampling_rate: z.number(),
    sampling: z.literal('poisson'),
    noise_multiplier: z.number().describe('Deviation of the noise on the sum over clipping_norm'),
    clipping_norm: z.number(),
    rounds: count.describe('Rounds so far'),
    total_rounds: count,
    accountant: z.literal('rdp'),
    private: z
      .boolean()
      .describe(
        'false for a simulation, for noise from a known key, and for clients dealt out by a partition',
      ),
    promise: z.string().describe('The guarantee in one sentence'),
  })
  .describe('Only in private training') satisfies z.ZodType<PrivacyReport>

const bestReport = z.object({
  step: stepFromStart.describe('Optimizer steps made before the best evaluation; 0 is before the first'),
  metric: z.enum(METRICS),
  value: z.number().describe('Metric in the best evaluation'),
  last_step: stepFromStart.describe('Optimizer steps made before the last evaluation'),
  last_value: z.number().describe('Metric in the last evaluation'),
  kept_step: stepFromStart.describe('The step of the adapter that the run ends with'),
})

/** The events of a run, one of which is a line of JSON. */
export const trainEvents = [
  z
    .object({
      event: z.literal('plan'),
      peak_bytes: bytes.describe('Most bytes that the run will hold at once'),
      rows: z.array(planRow).readonly().describe('Parts of the peak; they add up to peak_bytes'),
      privacy: privacyReport.optional(),
    })
    .describe('The planned memory, before the first step'),
  z
    .object({
      event: z.literal('step'),
      step,
      total_steps: step.describe('Steps of the whole run'),
      epoch: z.number().nonnegative().describe('Passes over the data so far'),
      loss: z
        .number()
        .nullable()
        .describe(
          'Mean over the supervised tokens of the step in nats, before its update; null for a round that drew nobody',
        ),
      grad_norm: z.number().nonnegative().describe('L2 norm of the gradient before clipping'),
      learning_rate: z.number().nonnegative().describe('Learning rate of this step'),
      tokens: count.describe('All tokens of the step'),
      supervised_tokens: count.describe('Tokens of the step that have a label'),
      tokens_per_second: rate,
      seconds_left: z.number().nonnegative().describe('Estimated, without evaluations'),
      epsilon: z.number().optional().describe('Private training: ε spent so far'),
      rank: count.nullable().optional().describe('Private training: ranks in use; null if all always are'),
      cohort: count.optional().describe('Private training: clients or examples that the round drew'),
      clipped_share: z
        .number()
        .nullable()
        .optional()
        .describe('Private training: share of the cohort that was clipped; null if nobody was drawn'),
    })
    .describe('An optimizer step was made'),
  z
    .object({
      event: z.literal('eval'),
      step: stepFromStart,
      loss: z.number().describe('Mean over the supervised tokens of the held-out data in nats'),
      perplexity: z.number().describe('exp(loss)'),
      tokens: count.describe('All tokens of the held-out data'),
      supervised_tokens: count.describe('Tokens of the held-out data that have a label'),
      exact_match: share
        .optional()
        .describe('Share of rows answered word for word, if metric_for_best_model is exact_match'),
    })
    .describe('The held-out data was evaluated'),
  z
    .object({ event: z.literal('checkpoint'), step: stepFromStart, path: z.string().describe('Its folder') })
    .describe('A checkpoint was saved'),
  z
    .object({ event: z.literal('paused'), step: stepFromStart })
    .describe('The run waits between two steps; a pause was requested'),
  z.object({ event: z.literal('resumed'), step: stepFromStart }).describe('The run goes on after a pause'),
  z
    .object({
      event: z.literal('stopped'),
      step: stepFromStart,
      path: z.string().nullable().describe('The checkpoint to resume from; null if there is none'),
    })
    .describe('The run was stopped early on request'),
  z
    .object({
      event: z.literal('done'),
      output_dir: z.string().nullable().describe('Folder of the result; null if the run saves nothing'),
      train_loss: z.number().describe('Mean over the supervised tokens of all steps in nats'),
      steps: step,
      stopped_early: z
        .literal(true)
        .optional()
        .describe('The metric did not improve for early_stopping_patience evaluations'),
      best: bestReport.optional().describe('The best evaluation, if there is held-out data'),
      peak_rss_bytes: bytes.describe('Most bytes that the process held resident'),
      tokens_per_second: rate,
      privacy: privacyReport.optional(),
    })
    .describe('The run ended'),
] as const

/** A line of metrics.jsonl and of `lowrank train --json`. */
export type MetricsLine = z.infer<(typeof trainEvents)[number]>

/** An event as its line has it: keys in snake_case, what a private round tells beside the rest, no loss as null. */
export function lineOf(event: TrainEvent): MetricsLine {
  const { privacy, ...told } = event as TrainStep
  const spelled = (fields: object): object =>
    Object.fromEntries(
      Object.entries(fields).map(([key, value]) => [
        snakeKey(key),
        key === 'best' ? spelled(value) : Number.isNaN(value) ? null : value,
      ]),
    )
  const round = event.event === 'step' ? privacy : privacy && { privacy }
  return { ...spelled(told), ...round } as MetricsLine
}

const FILE = 'metrics.jsonl'

/** True if the last run in a folder has ended; undefined without a record. */
export async function hasEnded(runDir: string): Promise<boolean | undefined> {
  const file = await open(join(runDir, FILE)).catch(() => undefined)
  if (file === undefined) return undefined
  try {
    const { size } = await file.stat()
    const bytes = Buffer.alloc(Math.min(size, 1 << 16))
    await file.read(bytes, 0, bytes.length, size - bytes.length)
    return bytes.toString('utf8').trimEnd().split('\n').at(-1)?.includes('"event":"done"')
  } finally {
    await file.close()
  }
}

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
   * @param resumed lines of what a run has done up to there are kept, those of work that is about to be done again dropped;
   * null starts anew
   */
  static async open(
    folder: string,
    resumed: Pick<TrainingState, 'step' | 'evaluations'> | null,
  ): Promise<MetricsFile> {
    const path = join(folder, FILE)
    const kept = resumed === null || !existsSync(path) ? [] : keptLines(await readFile(path, 'utf8'), resumed)
    await writeFileWhole(path, kept.map((line) => `${line}\n`).join(''))
    return new MetricsFile(path, await open(path, 'a'))
  }

  /** @throws {WriteError} when the disk refuses */
  async append(event: TrainEvent): Promise<void> {
    try {
      await this.#handle.appendFile(`${JSON.stringify(lineOf(event))}\n`)
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
    await cleanUp(this.#path, () => this.#handle.close())
  }
}

/** A killed process may have left half a line at the end. */
function keptLines(
  text: string,
  { step: lastStep, evaluations }: Pick<TrainingState, 'step' | 'evaluations'>,
): string[] {
  return text.split('\n').filter((line) => {
    try {
      const event = JSON.parse(line) as { event?: unknown; step?: unknown }
      if (event.event === 'eval') return evaluations.some(({ step }) => step === event.step)
      return event.event === 'plan' || (typeof event.step === 'number' && event.step <= lastStep)
    } catch {
      return false
    }
  })
}
