/** The events of a run as JSON lines, as printed by `lowrank train --json` and stored in metrics.jsonl. */
import { existsSync } from 'node:fs'
import { appendFile, open, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import * as z from 'zod'
import { LowrankError } from '../../core/errors.js'
import { snakeKey } from '../../core/schema.js'
import { fromSystem } from '../../core/system-error.js'
import { writeFileWhole } from '../../io/atomic.js'
import { GrowingFile } from '../../io/growing-file.js'
import { CATEGORIES, type PlanRow } from '../../native/addon.js'
import type { PrivacyReport } from '../../strategies/privacy-report.js'
import type { Samples } from '../answers/samples.js'
import { METRICS_FILE } from '../folders/output-folder.js'
import type { TrainEvent, TrainStep } from '../steps/events.js'
import type { TrainingState } from '../steps/step.js'

const bytes = z.int().nonnegative()
const count = z.int().nonnegative()
const step = z.int().positive().describe('Optimizer steps made so far, from 1')
const stepFromStart = count.describe('Optimizer steps made so far; 0 is before the first')
const share = z.number().min(0).max(1)
const rate = z.number().nonnegative().describe('All tokens processed, per second')

/** The bytes of one category at the peak of a plan, as JSON. */
export const planRow = z.object({
  category: z.enum(CATEGORIES),
  bytes: bytes.describe('Bytes of this category at the peak'),
  pinned_bytes: bytes
    .optional()
    .describe('Its bytes in pinned memory of the host, beside a GPU; absent if there are none'),
})

/** Converts a row of a plan to JSON fields. */
export function rowData({ category, bytes, pinnedBytes }: PlanRow): z.infer<typeof planRow> {
  return { category, bytes, ...(pinnedBytes === undefined ? {} : { pinned_bytes: pinnedBytes }) }
}

/** Guarantee and spent budget of a private run, as JSON. */
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

/** Means over preference pairs. */
const preference = Object.fromEntries(
  Object.entries({
    rewards_chosen: 'dpo, orpo, and kto: mean reward of chosen (good) answers',
    rewards_rejected: 'dpo, orpo, and kto: mean reward of rejected (bad) answers',
    rewards_margins: 'dpo, orpo, and kto: their difference',
    rewards_accuracies: 'dpo and orpo: share of pairs whose chosen answer has the larger reward',
    logps_chosen: 'dpo, orpo, and kto: mean log-probability of chosen (good) answers in nats',
    logps_rejected: 'dpo, orpo, and kto: mean log-probability of rejected (bad) answers in nats',
    nll_loss: 'orpo: mean over the tokens of chosen rows that nll_on names, in nats',
    log_odds_chosen: 'orpo: mean logarithm of the odds ratio',
    log_odds_ratio: 'orpo: mean logarithm of its logistic function',
    kl: 'kto: divergence from the reference in nats',
  }).map(([key, meaning]) => [key, z.number().optional().describe(meaning)]),
)

/** Means over the answers of a step of task grpo. */
const rewards = {
  reward: z.number().optional().describe('grpo: mean reward of the answers'),
  reward_std: z.number().nonnegative().optional().describe('grpo: standard deviation of the rewards'),
  frac_reward_zero_std: share
    .optional()
    .describe('grpo: share of prompts whose answers all have the same reward'),
  rewards: z
    .record(z.string(), z.number())
    .optional()
    .describe('grpo: mean reward by each function, by its name'),
  completions_mean_length: z
    .number()
    .nonnegative()
    .optional()
    .describe('grpo: mean number of tokens in an answer'),
  completions_clipped_ratio: share.optional().describe('grpo: share of answers cut before their end'),
}

/** Metrics of a classifier. */
const classes = {
  accuracy: share
    .optional()
    .describe(
      'classification: share of rows whose class is predicted; causal_lm: share of supervised tokens predicted correctly, if it is the metric_for_best_model',
    ),
  macro_f1: share.optional().describe('classification: mean F1 of the classes'),
  micro_f1: share.optional().describe('classification: F1 of all classes counted together'),
  matthews_correlation: z
    .number()
    .min(-1)
    .max(1)
    .optional()
    .describe('classification: correlation of classes and predictions (Matthews)'),
  confusion_matrix: z
    .array(z.array(count).readonly())
    .readonly()
    .optional()
    .describe(
      'classification: rows by class and predicted class, in the order of labels; absent above 100 classes',
    ),
}

const bestReport = z.object({
  step: stepFromStart.describe('Optimizer steps made before the best evaluation; 0 is before the first'),
  metric: z.string().describe('Its name'),
  value: z.number().describe('Metric in the best evaluation'),
  last_step: stepFromStart.describe('Optimizer steps made before the last evaluation'),
  last_value: z.number().describe('Metric in the last evaluation'),
  kept_step: stepFromStart.describe('The step of the adapter that the run ends with'),
})

const time = z.number().nonnegative().describe('Time of the line in seconds since 1970, to the millisecond')

const runData = z.object({
  name: z.string().nullable().describe('Path; null for a share of the training data'),
  rows: count.nullable().describe('Rows that are used; null if they are streamed'),
  hash: z.string().describe('Content hash'),
})

const askedRow = {
  prompt: z.string(),
  system: z.string().nullable().describe('The system prompt of the row'),
  form: z
    .enum(['chat', 'raw'])
    .optional()
    .describe("Form in which the row was asked; absent if it is the adapter's default"),
  tools: z.array(z.string()).readonly().optional().describe("Names of the row's tools"),
  expected: z.string(),
}

/** The events of a run; each is one JSON line. */
export const trainEvents = [
  z
    .object({
      event: z.literal('start'),
      time,
      version: z.string().describe('Version of lowrank'),
      model: z.object({ name: z.string(), fingerprint: z.string().describe('Content hash of its files') }),
      strategy: z.record(z.string(), z.unknown()).describe('The strategy with all its options'),
      trainable_parameters: count.describe('Numbers that train'),
      labels: z
        .array(z.string())
        .readonly()
        .optional()
        .describe('task classification: the classes in the order of their ids'),
      data: runData.describe('The training data'),
      evaluation: runData.nullable().describe('The held-out data; null if there is none'),
      device: z.string(),
      level: z.string().describe('Instruction set of the kernels'),
      threads: count,
      total_steps: count.describe('Steps of the whole run'),
      config: z.record(z.string(), z.unknown()).describe('Options that differ from their defaults'),
      command: z.string().nullable().describe('Command that repeats the run, if it is known'),
      resumed_from: count.nullable().describe('Steps that were made when it was resumed; null if it was not'),
    })
    .describe('The run begins; also of a run that is resumed'),
  z
    .object({
      event: z.literal('rate'),
      time,
      learning_rate: z.number().positive().describe('The chosen rate'),
      reason: z
        .string()
        .nullable()
        .describe('Why it is the default of the strategy; null if the search chose it'),
      rates: z
        .array(
          z.object({
            rate: z.number().positive(),
            loss: z.number().nullable().describe('Held-out loss in nats; null if the run diverged'),
          }),
        )
        .readonly()
        .describe('Rates tried in short runs, ascending'),
      steps: count.describe('Optimizer steps that the search took'),
      seconds: z.number().nonnegative(),
    })
    .describe('The learning rate was searched; with learning_rate auto'),
  z
    .object({
      event: z.literal('plan'),
      time,
      peak_bytes: bytes.describe('Most bytes that the run will hold at once'),
      pinned_bytes: bytes.optional().describe('Of pinned memory of the host beside them, on a GPU'),
      runtime_bytes: bytes
        .optional()
        .describe('Resident bytes of the process before it opened the model: Node.js and the program'),
      rows: z.array(planRow).readonly().describe('Parts of the peak; they add up to peak_bytes'),
      privacy: privacyReport.optional(),
    })
    .describe('The planned memory, before the first step'),
  z
    .object({
      event: z.literal('step'),
      time,
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
      ...preference,
      ...rewards,
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
      time,
      step: stepFromStart,
      loss: z.number().describe('Mean over the supervised tokens of the held-out data in nats'),
      perplexity: z.number().optional().describe('exp(loss); absent with task classification'),
      tokens: count.describe('All tokens of the held-out data'),
      supervised_tokens: count.describe('Tokens of the held-out data that have a label'),
      ...preference,
      reward: z
        .number()
        .optional()
        .describe('grpo: mean reward of greedy answers, if metric_for_best_model is reward'),
      ...classes,
      exact_match: share
        .optional()
        .describe('Share of rows answered word for word, if metric_for_best_model is exact_match'),
      f1: share
        .optional()
        .describe('causal_lm: mean F1 of the words of answers, if metric_for_best_model is f1'),
      scores: z
        .record(z.string(), z.number())
        .optional()
        .describe('Mean of a metric of the program, by its name'),
    })
    .describe('The held-out data was evaluated'),
  z
    .object({
      event: z.literal('answers'),
      time,
      step: stepFromStart,
      rows: z
        .array(
          z.object({
            ...askedRow,
            answer: z.string().describe('Answer by greedy generation'),
            cut: z.boolean().describe('True if it ended at the token limit'),
          }),
        )
        .readonly(),
    })
    .describe('Held-out rows were answered, beside an evaluation; with eval_generate'),
  z
    .object({
      event: z.literal('checkpoint'),
      time,
      step: stepFromStart,
      path: z.string().describe('Its folder'),
    })
    .describe('A checkpoint was saved'),
  z
    .object({
      event: z.literal('memory'),
      time,
      step: stepFromStart,
      allocated: z
        .partialRecord(z.enum(CATEGORIES), bytes)
        .describe('Bytes allocated by the engine for the whole process, by category'),
      resident_bytes: bytes.describe('Resident set of the process'),
    })
    .describe('Memory between two steps; at most a hundred and two lines a run'),
  z
    .object({
      event: z.literal('ranks'),
      time,
      step: stepFromStart,
      ranks: z.record(z.string(), count).describe('Ranks left, by the path of the linear'),
    })
    .describe('The strategy has allocated ranks anew; at most fifty-two lines a run'),
  z
    .object({ event: z.literal('paused'), time, step: stepFromStart })
    .describe('The run waits between two steps; a pause was requested'),
  z
    .object({ event: z.literal('resumed'), time, step: stepFromStart })
    .describe('The run goes on after a pause'),
  z
    .object({
      event: z.literal('stopped'),
      time,
      step: stepFromStart,
      path: z.string().nullable().describe('The checkpoint to resume from; null if there is none'),
    })
    .describe('The run was stopped early on request'),
  z
    .object({
      event: z.literal('done'),
      time,
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

/** Rows and their answers after a run. */
export const sampleRows = z.array(
  z.object({
    ...askedRow,
    base: z.string().describe('Answer of the base'),
    tuned: z.string().describe('Answer of the tuned model'),
    cut: z.boolean().describe('True if an answer ended at the token limit'),
  }),
)
/** Rows classified after a run. */
export const classifiedRows = z
  .array(
    z.object({
      text: z.string(),
      expected: z.string().describe('Its class'),
      predicted: z.string(),
      probability: share.describe('Probability of the predicted class'),
    }),
  )
  .readonly()
  .describe('task classification: rows and their predicted classes; `rows` is then empty')
export const samplesHeldOut = z.boolean().describe('True if the run did not train on these rows')

/** Lines of metrics.jsonl for which `lowrank train --json` has another form. */
export const recordedEvents = [
  z
    .object({
      event: z.literal('samples'),
      time,
      held_out: samplesHeldOut,
      rows: sampleRows,
      classified: classifiedRows.optional(),
    })
    .describe('Rows answered after the run; the last line, after done'),
  z
    .object({
      event: z.literal('error'),
      time,
      step: stepFromStart,
      code: z.string().describe('A code of lowrank; INTERNAL for a defect'),
      message: z.string(),
    })
    .describe('The run failed'),
] as const

/** A line of `lowrank train --json`. */
export type TrainLine = z.infer<(typeof trainEvents)[number]>
/** A line of metrics.jsonl. */
export type MetricsLine = TrainLine | z.infer<(typeof recordedEvents)[number]>

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
    const code = error instanceof LowrankError ? error.code : 'INTERNAL'
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
