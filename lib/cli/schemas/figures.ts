/** Output of `lowrank figures --json`. */
import * as z from 'zod'
import { STUDIES } from '../../laboratory/studies/index.js'
import { count } from './fields.js'
import { memoryStudy } from './memory.js'

const spreadOf = (what: string) =>
  z
    .object({ mean: z.number(), low: z.number(), high: z.number(), seeds: z.array(z.number()) })
    .describe(`${what}: mean, lowest and highest of several seeds, and each`)

const figureFiles = z.array(z.string()).describe('The picture, and this answer')

const studied = {
  epsilons: z.array(z.number()).readonly(),
  seeds: count,
  rounds: count,
  cohort: count,
  learning_rate: z.number(),
  clipping_norm: z.number(),
}

export const utilityFigure = z.object({
  name: z.literal('privacy-utility'),
  settings: z.object({
    ...studied,
    local_epochs: count,
    simulation: z.object({ population: count, cohort: count }),
  }),
  delta: z.number(),
  panels: z.array(
    z.object({
      task: z.string(),
      domain: z.string(),
      about: z.string().describe('The question of the task'),
      base: z.number().describe('Accuracy of the model before training'),
      majority: z.number().describe('Share of the most frequent answer'),
      arms: z.array(
        z.object({
          arm: z.string(),
          points: z.array(
            z.object({
              epsilon: z.number().nullable().describe('null: without noise'),
              noise_multiplier: z.number(),
              accuracy: spreadOf('Share of held-out rows that are right'),
            }),
          ),
        }),
      ),
    }),
  ),
  reading: z.string().describe('What the figure shows, and what it does not'),
  files: figureFiles,
})

export const canaryFigure = z.object({
  name: z.literal('canary'),
  settings: z.object({ ...studied, rows: count }),
  candidates: count.describe('Codes that the secret is ranked among, itself included'),
  chance: z.number().describe('Mean exposure of a code that was never seen'),
  points: z.array(
    z.object({
      epsilon: z.number().nullable().describe('null: without privacy'),
      exposure: spreadOf('Bits'),
      loss: z
        .number()
        .nullable()
        .describe('Loss of the last round that drew a row, mean over the seeds; null if none did'),
    }),
  ),
  reading: z.string().describe('What the figure shows, and what it does not'),
  files: figureFiles,
})

export const memoryFigure = z.object({ name: z.literal('memory'), ...memoryStudy, files: figureFiles })

export const strategyFigure = z.object({
  name: z.enum(Object.keys(STUDIES) as (keyof typeof STUDIES)[]),
  settings: z.object({
    model: z.string(),
    dataset: z.string(),
    eval_dataset: z.string(),
    steps: count.describe('Optimizer steps of a run'),
    seeds: count,
  }),
  rows: z
    .array(z.record(z.string(), z.union([z.number(), z.string(), z.null()])))
    .describe('The numbers of the picture, a row for each point or run; columns depend on the figure'),
  reading: z.string().describe('What the figure shows, and what it does not'),
  files: figureFiles,
})
