/**
 * Schema of results.json from `lowrank compare`: the options, every trained cell with the losses and answers of its
 * items, and the statistics over them. Keys are in snake_case, bytes are integers, losses are nats per supervised
 * token. Fields may be added; existing ones keep their meaning.
 */
import * as z from 'zod'
import { planRow } from '../train/records/event-schemas.js'
import { VERDICTS } from './statistics/index.js'

const bytes = z.int().nonnegative()
const count = z.int().nonnegative()
const seconds = z.number().nonnegative()
const sha256 = z.string().regex(/^[0-9a-f]{64}$/)
/** JSON cannot represent NaN or infinity. */
const loss = z.number().nullable().describe('Nats per supervised token; null: not finite')

export const EQUALITIES = ['rank', 'parameters', 'bytes', 'time'] as const
/** The quantity held equal to make strategies of different sizes comparable. */
export type Equality = (typeof EQUALITIES)[number]

const rows = z.object({
  rows: count,
  hash: sha256.describe('SHA-256 over the token ids and labels of these rows, in order'),
})
/** Rows that a seed draws. Their number says which, since the seed and the rows drawn from are known. */
const drawnRows = z.object({
  rows: count,
  hash: sha256.optional().describe('In results of version 1, where all seeds had the same rows'),
})

const metricValues = z
  .record(z.string(), z.number().nullable())
  .describe('Mean over the test rows, by name of the metric; null: diverged')

/** Measurements of one adapter, or of the base model alone, on every test row. */
const items = z.object({
  loss: z.array(loss).describe('Mean loss of the supervised tokens of each test row'),
  scores: z
    .record(z.string(), z.array(z.number()))
    .describe('Further metrics by name, a number for each test row, such as 0 or 1 for exact_match'),
  predictions: z
    .array(z.string())
    .optional()
    .describe('Answer to each test row by greedy generation; absent where the rows ask nothing'),
})

/** Planned peak memory of a run; the rows add up to `bytes`. */
const planned = z.object({ bytes, rows: z.array(planRow) })

const rung = z.object({
  steps: count,
  loss: loss.describe(
    'Mean validation loss after these steps, by the schedule of the run in small; null: diverged',
  ),
  items: z.array(loss).describe('Loss of each validation row; empty where the run diverged'),
  seconds,
})

const searchedRate = z.object({
  rate: z.number().positive(),
  rungs: z.array(rung).describe('Runs at this rate, shortest first, each from the start'),
  beyond: z.literal(true).optional().describe('Added since the best of the first rung was at an edge'),
  refined: z.literal(true).optional().describe('Added a quarter of a decade from one of the best two'),
})

const search = z.object({
  seed: count
    .nullable()
    .describe('Seed that has this search; null: shared by all seeds, in results of version 1'),
  start: loss.describe('Validation loss of the base; null: not finite, or not measured yet'),
  rates: z.array(searchedRate).describe('In ascending order'),
  chosen: z.number().positive().nullable().describe('null: not chosen yet, or every rate diverged'),
  at_edge: z.boolean().describe('The chosen rate is the lowest or highest that was tried'),
  flat: z
    .boolean()
    .describe(
      'The chosen rate and its neighbors differ by less than the seeds do, so that the rate matters little there',
    ),
  steps: count.describe('Optimizer steps of all rungs'),
  seconds,
})

const generalLosses = z
  .array(loss)
  .default([])
  .describe('Loss of each paragraph of the general text; empty where the run diverged')

const cell = z.object({
  id: z.string().describe('Entry and seed, as in lora/42'),
  seed: count,
  rate: z.number().positive(),
  steps: count.describe('Optimizer steps that were made'),
  diverged: z.boolean(),
  hash: sha256.describe(
    'SHA-256 over the configuration, base, data, binary, and bits: what `compare verify` finds again',
  ),
  bits: sha256.describe(
    'SHA-256 over the results alone: the loss of every step, the curve, the loss of every paragraph of the general text, and the loss (also at thirds), the scores and the prediction of every item',
  ),
  metrics: metricValues,
  items,
  general_loss: loss.describe('Loss on the general text, which tells what was forgotten'),
  general_losses: generalLosses,
  thirds: z
    .array(z.object({ steps: count, loss: z.array(loss).describe('Mean loss of each test row') }))
    .default([])
    .describe('Test loss after a third and two thirds of the steps; no choice is made by it'),
  curve: z
    .array(z.tuple([count, loss]))
    .describe('Validation loss during the run: optimizer steps made, and loss'),
  train_losses: z.array(loss).describe('Loss of every optimizer step'),
  seconds: seconds.describe('Time of the optimizer steps and of a probe, without evaluations'),
  seconds_to_best: seconds
    .nullable()
    .describe('The same time up to the lowest loss of the curve; null: diverged'),
  tokens_per_second: z.number().nonnegative(),
  load: z
    .object({ before: z.number(), after: z.number(), cores: count })
    .optional()
    .describe('Load of the machine over a minute, as the cell began and ended; absent where none is counted'),
  measured_peak: z
    .object({
      bytes: bytes.describe('Most bytes that were allocated at once'),
      rows: z.array(planRow).describe('The same by category'),
      resident_bytes: bytes.describe('Largest resident memory of the process between the steps'),
    })
    .describe('Seen between the optimizer steps'),
})

const entry = z.object({
  name: z.string().describe('Name of the strategy, or of a control, such as lora+alpha'),
  strategy: z.record(z.string(), z.unknown()).describe('Its configuration, as in a config file'),
  control_of: z.string().optional().describe('Name of the entry that this control explains'),
  about: z.string().optional().describe('Purpose of a control, or a remark, in a sentence'),
  base_format: z.string().describe('Quantization of the frozen weights, such as none or nf4'),
  trainable_parameters: count,
  planned,
  file_bytes: bytes.nullable().describe('Size of the saved adapter; null: no cell has been trained'),
  steps: count.describe('Optimizer steps of a cell'),
  seconds_per_step: z.number().nonnegative().describe('Measured before the compare began'),
  probe_seconds: seconds
    .default(0)
    .describe('Time of the look at the data that the strategy takes before each training'),
  searches: z.array(search).describe('One for each seed, in their order'),
  cells: z.array(cell),
})

const interval = z.tuple([z.number(), z.number()])

const pair = {
  difference: z.number().describe('Mean of the entry minus that of the other'),
  p_holm: z.number().nullable().describe('Corrected by Holm within the list; null for one seed'),
  p_equal: z
    .number()
    .nullable()
    .describe('For a difference of the margin or more, corrected in the same way; null without a margin'),
  verdict: z
    .enum(VERDICTS)
    .describe('Of the entry beside the other; equal: the difference is smaller than the margin'),
}

/** Statistics of one metric, over all seeds and items. */
const metricStatistics = z.object({
  margin: z.number().positive().nullable().describe('Differences below it do not matter; null: not asked'),
  means: z
    .array(
      z.object({
        name: z.string(),
        mean: z.number(),
        spread: z.number().nullable().describe('Standard deviation over the seeds; null for one seed'),
        interval: interval.describe('95 % bootstrap interval over seeds and items'),
        diverged: count.describe('Seeds that diverged; their items count as the worst that any entry has'),
      }),
    )
    .describe('Best first'),
  against: z
    .array(
      z.object({
        name: z.string(),
        ...pair,
        interval: interval.nullable().describe('95 % interval of the difference'),
        df: z.number().nullable().describe('Degrees of freedom (Satterthwaite)'),
        p: z.number().nullable(),
        detectable: z
          .number()
          .nullable()
          .describe('Smallest difference that this compare would have found in 8 of 10 cases'),
      }),
    )
    .describe('Paired differences to LoRA on the same seeds and items, best entry first'),
  pairs: z
    .array(z.object({ name: z.string(), other: z.string(), ...pair }))
    .describe('The same of all pairs without LoRA, the one with the better mean first'),
  left_pool: z.array(z.string()).describe('Entries that vary far more over seeds than the others'),
  unstable_control: z
    .number()
    .nullable()
    .describe('Variance of LoRA over seeds, as a multiple of that of the others, where it is too large'),
})

/** Content of results.json. */
export const compareResults = z.object({
  version: z
    .literal([1, 2])
    .describe('1: one search at a constant rate for all seeds, the first test rows, hashes without scores'),
  kind: z.literal('compare'),
  hash: sha256.describe('SHA-256 over all other fields, so that a change by hand is noticed'),
  created: z.string().describe('ISO 8601'),
  finished: z.string().nullable().describe('ISO 8601; null: cells are missing'),
  command: z.string().nullable().describe('Command that continues or repeats this compare'),
  model: z.object({ name: z.string(), hash: sha256, quantization: z.string(), precision: z.string() }),
  data: z.object({
    pool: rows.optional().describe('Rows to train on, of which each seed sets some aside'),
    train: drawnRows.describe('Rows that a seed trains on'),
    validation: drawnRows.describe('Rows that a seed sets aside to choose its learning rate'),
    test: rows.describe('Drawn by the seed of the config, the same ones for all seeds'),
    general: rows,
  }),
  binary: z.object({
    version: z.string(),
    level: z.string().describe('Instruction-set level, which decides the bits of the results'),
    hash: sha256.describe('SHA-256 of the native addon'),
  }),
  machine: z.object({ processor: z.string(), threads: count, platform: z.string() }),
  asked: z
    .record(z.string(), z.unknown())
    .describe('Options of the compare, which a resumed one must repeat'),
  settings: z
    .record(z.string(), z.unknown())
    .describe('Configuration that all cells share, as in a config file'),
  equal: z.enum(EQUALITIES).describe('What is equal among the entries'),
  metrics: z.array(z.object({ name: z.string(), higher_is_better: z.boolean(), primary: z.boolean() })),
  margins: z
    .record(z.string(), z.number().positive())
    .optional()
    .describe('Differences below these do not matter, by name of the metric'),
  seeds: z
    .array(count)
    .describe(
      'Seeds of the data order, the initial values, the rows set aside, and so the learning rate; every entry has the same',
    ),
  plan: z.object({
    seconds: seconds.describe('Expected duration, from measured step times'),
    budget_seconds: seconds.nullable(),
    rungs: z.array(count).describe('Steps of the rungs of the search'),
    cuts: z.array(z.string()).describe('Reductions to fit the budget, a sentence each'),
    spent_seconds: seconds
      .default(0)
      .describe('Time that the runs have taken so far, side by side ones once'),
    power: z
      .number()
      .nullable()
      .describe(
        'Share of compares of this size that find a difference of two spreads (a spread is the standard deviation of one entry over seeds); null for fewer than two seeds or entries',
      ),
  }),
  left_out: z
    .array(z.object({ name: z.string(), reason: z.string() }))
    .describe('Strategies that were asked for and not run'),
  base: z
    .object({
      metrics: metricValues,
      items,
      general_loss: loss,
      general_losses: generalLosses,
      validation_loss: loss.describe('Of the first seed'),
      validation_seconds: seconds.describe('Time to measure the validation rows'),
      test_seconds: seconds.describe('Time to measure the test rows and the general text'),
    })
    .nullable()
    .describe('The model before training; null: not measured yet'),
  entries: z.array(entry),
  statistics: z
    .record(z.string(), metricStatistics)
    .nullable()
    .describe('By name of the metric; null until all cells are there'),
  remarks: z.array(z.string()).describe('Warnings, a sentence each'),
  verified: z
    .array(
      z.object({
        id: z.string().describe('Of the cell'),
        expected: sha256.describe(
          'Hash that the cell had; if the cell has another one now, this says nothing about it',
        ),
        same: z.boolean().describe('The cell had this hash again'),
        difference: z.string().nullable().describe('The first value that differed, in words'),
        at: z.string().describe('ISO 8601'),
        level: z.string().describe('Instruction-set level'),
        addon: sha256.describe('SHA-256 of the native addon, which may be another build'),
      }),
    )
    .optional()
    .describe('Cells that `compare verify` trained again; absent before the first'),
})

/** Contents of results.json, with its snake_case keys. */
export type CompareResults = z.infer<typeof compareResults>
/** A strategy in a comparison: its size, learning-rate search, and cells. */
export type CompareEntry = CompareResults['entries'][number]
/** One trained adapter (one strategy, one seed) with its results on every test row. */
export type CompareCell = CompareEntry['cells'][number]
export type CompareItems = CompareCell['items']
export type CompareSearch = CompareEntry['searches'][number]
export type CompareRung = CompareSearch['rates'][number]['rungs'][number]
export type MetricStatistics = NonNullable<CompareResults['statistics']>[string]
