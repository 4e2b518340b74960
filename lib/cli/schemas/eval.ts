/** Output of `lowrank eval --json`. */
import * as z from 'zod'
import { count } from './fields.js'

const evaluated = z.object({
  model: z.string(),
  adapters: z
    .array(z.object({ path: z.string(), weight: z.number().describe('Factor of its output') }))
    .readonly(),
  dataset: z.union([z.string(), z.array(z.string()).readonly()]).describe('As it was given'),
  eval_fraction: z
    .number()
    .nullable()
    .describe('Share of the dataset that the run held out and that was evaluated; null for all of it'),
})

const supervisedTokens = count.describe('Tokens that have a label')

export const printed = z.discriminatedUnion('metric', [
  evaluated.extend({
    metric: z.literal('loss'),
    loss: z.number().describe('Mean over the supervised tokens in nats'),
    perplexity: z.number().describe('exp(loss)'),
    tokens: count.describe('All tokens of the data'),
    supervised_tokens: supervisedTokens,
  }),
  evaluated.extend({
    metric: z.literal('exact_match'),
    exact_match: z.number().describe('Share of rows that greedy generation answers word for word'),
    matched_rows: count.describe('Number of these rows'),
    rows: count.describe('Rows with something to answer, or answers with reasoning_history: drop'),
  }),
  evaluated.extend({
    metric: z.literal('mean_token_accuracy'),
    mean_token_accuracy: z
      .number()
      .describe(
        'Share of the supervised tokens that the model finds likeliest, given the tokens before them',
      ),
    supervised_tokens: supervisedTokens,
  }),
  evaluated.extend({
    metric: z.literal('f1'),
    f1: z.number().describe('Mean F1 of the words that generated answers share with those of the data'),
    rows: count.describe('Rows with something to answer, or answers with reasoning_history: drop'),
  }),
  evaluated.extend({
    metric: z.literal('classes'),
    loss: z.number().describe('Mean over the rows in nats'),
    accuracy: z.number().describe('Share of rows whose class is predicted'),
    macro_f1: z.number().describe('Mean F1 of the classes'),
    micro_f1: z.number().describe('F1 of all classes counted together'),
    matthews_correlation: z.number().describe('Correlation of classes and predictions (Matthews)'),
    labels: z.array(z.string()).readonly().describe('Classes in the order of their ids'),
    rows: count,
    classes: z
      .array(
        z.object({
          label: z.string(),
          precision: z.number().describe('Share of the rows predicted as this class that are of it'),
          recall: z.number().describe('Share of the rows of this class that are predicted as it'),
          f1: z.number().describe('Their harmonic mean'),
          support: count.describe('Rows of this class'),
        }),
      )
      .readonly()
      .describe('Scores of each class, in the order of the labels'),
  }),
])
