/** Schemas of the JSON lines of a run, as `lowrank train --json` and metrics.jsonl have them; scripts/options.mjs writes types. */
import * as z from 'zod'
import { named } from '../../core/type-names.js'
import { CATEGORIES, type PlanRow } from '../../native/addon.js'
import type { PrivacyReport } from '../../strategies/privacy-report.js'

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
export const preference = Object.fromEntries(
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
export const rewards = {
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

const tokenAccuracy = {
  mean_token_accuracy: share
    .optional()
    .describe(
      'causal_lm: share of supervised tokens that are the likeliest ones, with token_accuracy or as the metric_for_best_model',
    ),
}

/** Metrics of a classifier. */
const classes = {
  accuracy: share.optional().describe('classification: share of rows whose class is predicted'),
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

export const bestReport = z.object({
  step: stepFromStart.describe('Optimizer steps made before the best evaluation; 0 is before the first'),
  metric: z.string().describe('Its name'),
  value: z.number().describe('Metric in the best evaluation'),
  last_step: stepFromStart.describe('Optimizer steps made before the last evaluation'),
  last_value: z.number().describe('Metric in the last evaluation'),
  kept_step: stepFromStart.describe('The step of the adapter that the run ends with'),
})

const time = z.number().nonnegative().describe('Time of the line in seconds since 1970, to the millisecond')

export const runData = z.object({
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

/** How the learning rate was searched. */
export const rateSearch = {
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
}

/** The round of a private step. */
export const roundPrivacy = {
  epsilon: z.number().optional().describe('Private training: ε spent so far'),
  rank: count.nullable().optional().describe('Private training: ranks in use; null if all always are'),
  cohort: count.optional().describe('Private training: clients or examples that the round drew'),
  clipped_share: z
    .number()
    .nullable()
    .optional()
    .describe('Private training: share of the cohort that was clipped; null if nobody was drawn'),
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
      strategy_label: named(z.string().optional(), { type: 'string', always: true }).describe(
        'Its name in the literature; absent in older files',
      ),
      trainable_parameters: count.describe('Numbers that train'),
      labels: z
        .array(z.string())
        .readonly()
        .optional()
        .describe('task classification: the classes in the order of their ids'),
      data: runData.describe('The training data'),
      evaluation: runData.nullable().describe('The held-out data; null if there is none'),
      device: named(z.string(), { type: 'Device', from: 'native/addon' }),
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
      ...rateSearch,
    })
    .describe('The learning rate was searched; with `learning_rate: auto`'),
  z
    .object({
      event: z.literal('plan'),
      time,
      peak_bytes: bytes.describe('Most bytes that the run will hold at once'),
      pinned_bytes: bytes.optional().describe('Pinned memory of the host in addition, on a GPU'),
      runtime_bytes: named(bytes.optional(), { type: 'number', always: true }).describe(
        'Resident bytes of the process before it opened the model: Node.js and the program',
      ),
      rows: z.array(planRow).readonly().describe('Parts of the peak; they add up to `peak_bytes`'),
      privacy: privacyReport.optional(),
    })
    .describe('The planned memory, before the first step'),
  z
    .object({
      event: z.literal('step'),
      time,
      step,
      total_steps: step.describe('Steps of the whole run'),
      epoch: z.number().nonnegative().describe('Passes over the data so far; over a stream, completed ones'),
      loss: named(z.number().nullable(), { type: 'number' }).describe(
        'Mean over the supervised tokens of the step before its update, in nats; for preference pairs and grpo, the loss of the task. For a round that drew nobody: null in JSON, NaN in programs',
      ),
      grad_norm: z.number().nonnegative().describe('L2 norm of the gradient before clipping'),
      learning_rate: z.number().nonnegative().describe('Learning rate of this step'),
      tokens: count.describe('All tokens of the step'),
      supervised_tokens: count.describe('Tokens of the step that have a label'),
      tokens_per_second: rate,
      seconds_left: z.number().nonnegative().describe('Estimated, without evaluations'),
      ...tokenAccuracy,
      ...preference,
      ...rewards,
      ...roundPrivacy,
    })
    .describe('An optimizer step was made'),
  z
    .object({
      event: z.literal('eval'),
      time,
      step: stepFromStart,
      loss: z
        .number()
        .nullable()
        .describe('Mean over the supervised tokens of the held-out data in nats; null if there are none'),
      perplexity: z
        .number()
        .nullable()
        .optional()
        .describe('exp(loss), null with it; absent with task classification'),
      tokens: count.describe('All tokens of the held-out data'),
      supervised_tokens: count.describe('Tokens of the held-out data that have a label'),
      ...tokenAccuracy,
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
          named(
            z.object({
              ...askedRow,
              answer: z.string().describe('Answer by greedy generation'),
              cut: z.boolean().describe('True if it ended at the token limit'),
            }),
            {
              type: 'StepAnswer',
              about: 'A held-out row with the greedy answer of the adapter at some step.',
            },
          ),
        )
        .readonly(),
    })
    .describe('Held-out rows were answered, beside an evaluation; with `eval_generate`'),
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
        .partialRecord(named(z.enum(CATEGORIES), { type: 'Category', from: 'native/addon' }), bytes)
        .describe('Bytes allocated by the engine for the whole process, by category'),
      resident_bytes: bytes.describe('Resident set of the process in bytes'),
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
        .describe('The metric did not improve for `early_stopping_patience` evaluations'),
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
