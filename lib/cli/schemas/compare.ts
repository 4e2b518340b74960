/** Output of `lowrank compare --json`: events. */
import * as z from 'zod'
import { compareResults } from '../../compare/results.js'
import { count } from './fields.js'

const loss = z.number().nullable().describe('null: diverged')

export const compare = [
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
    .object({ event: z.literal('rung'), name: z.string(), rate: z.number(), steps: count, loss })
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
    })
    .describe('A cell was trained again'),
  z
    .object({
      event: z.literal('verification'),
      same: z.boolean().describe('True if all cells have the same hash'),
      cells: count,
      same_binary: z.boolean().describe('True if the native addon is the one that made the results'),
    })
    .describe('The verification is complete'),
] as const
