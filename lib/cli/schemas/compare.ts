/** Output of `lowrank compare --json`, as events. */
import * as z from 'zod'
import { compareResults } from '../../compare/results.js'
import { count } from './fields.js'

const loss = z.number().nullable().describe('null: diverged')

export const printed = z.discriminatedUnion('event', [
  z
    .object({
      event: z.literal('plan'),
      entries: z.array(z.string()).describe('Names of what is trained'),
      left_out: compareResults.shape.left_out,
      seeds: z.array(count),
      ...compareResults.shape.plan.shape,
    })
    .describe('What will run, before it begins'),
  z
    .object({ event: z.literal('rung'), name: z.string(), seed: count, rate: z.number(), steps: count, loss })
    .describe('A run of the search of learning rates is over'),
  z
    .object({ event: z.literal('cell'), id: z.string(), loss, seconds: z.number() })
    .describe('An entry was trained with one seed'),
  z
    .object({
      event: z.literal('done'),
      results: z.string().describe('Path of results.json'),
      statistics: compareResults.shape.statistics,
    })
    .describe('The compare is complete'),
  z
    .object({
      event: z.literal('verified'),
      id: z.string(),
      expected: z.string().describe('Hash in the results'),
      found: z.string().describe('Hash of the repetition'),
      same: z.boolean(),
      difference: z.string().nullable().describe('The first value that differs; null if none does'),
    })
    .describe('A cell was trained again'),
  z
    .object({
      event: z.literal('verification'),
      same: z.boolean().describe('True if all cells have the same hash'),
      cells: count,
      same_binary: z.boolean().describe('True if the native addon is the one that made the results'),
      unrecorded: z.string().nullable().describe('Why the results do not record this; null: they do'),
    })
    .describe('The verification is complete'),
  z
    .object({
      event: z.literal('runs'),
      runs: z.array(
        z.object({
          folder: z.string(),
          output_dir: z.string().describe('Folder of its adapter'),
          strategy: z.string().nullable().describe('null: the run has no config.yaml'),
          learning_rate: z.number().nullable(),
          seed: count.nullable(),
          ended: z.boolean(),
          train_loss: z.number().nullable().describe('Mean of the whole run; null until it ends'),
          kept_step: count.nullable().describe('Step of the adapter that is left; null: the last'),
          curve: z.array(z.tuple([count, z.number().nullable()])).describe('Training loss by step'),
          evaluations: z.array(
            z.object({ step: count, loss: z.number(), exact_match: z.number().optional() }),
          ),
          items: z
            .object({
              exact_match: z.number().describe('Share of held-out rows answered word for word'),
              interval: z.tuple([z.number(), z.number()]).describe('95 %, by Wilson'),
              mean_token_accuracy: z.number().describe('Share of supervised tokens predicted'),
              matched: z.array(z.boolean()).describe('Each held-out row'),
            })
            .nullable()
            .describe('null: `lacks` tells why'),
          lacks: z.string().nullable().describe('Reason why the run cannot be evaluated again'),
        }),
      ),
      rows: count.nullable().describe('Held-out rows; null if no run can be evaluated'),
      pairs: z
        .array(
          z.object({
            first: count.describe('Index of a run'),
            second: count,
            only_first: count.describe('Rows that the first alone answers word for word'),
            only_second: count,
            p: z.number().describe('McNemar’s exact p, of these two adapters'),
          }),
        )
        .describe('Every two runs that were evaluated'),
      flips: z.array(count).describe('Indices of the rows on which runs differ'),
      shown: z
        .array(
          z.object({
            row: count,
            prompt: z.string(),
            expected: z.string(),
            answers: z.array(z.string().nullable()).describe('By run'),
            matched: z.array(z.boolean().nullable()).describe('By run'),
          }),
        )
        .describe('The first of these rows, with the answers'),
    })
    .describe('Finished runs were compared'),
])
