/** The named losses and their options. */
import * as z from 'zod'
import { badArgument } from '../../core/arguments.js'
import { numberWithin, parseOptions, positive, word } from '../../core/schema.js'
import { isRecord } from '../../core/schema-shape.js'
import { hasPairs, type NllOn } from '../../options/task.js'
import { dpo, nllRow, orpo, type ScoredPair } from './preference.js'
import { crossEntropy, kto, policyGradient } from './rewards.js'
import { type Denominators, type LossValue, type ScoredRow, weightOf } from './rows.js'
import type { TokenRow } from './token-rows.js'

const beta = () => positive().default(0.1)
const weight = () => positive().default(1)

const schemas = {
  cross_entropy: z.strictObject({}),
  dpo: z.strictObject({
    beta: beta(),
    lossType: word(['sigmoid', 'ipo']).default('sigmoid'),
    labelSmoothing: numberWithin(0, 0.5 - Number.EPSILON, 'a number in [0, 0.5)').default(0),
  }),
  orpo: z.strictObject({ beta: beta(), nllOn: word(['all', 'completions']).default('all') }),
  kto: z.strictObject({
    beta: beta(),
    desirableWeight: weight(),
    undesirableWeight: weight(),
    kl: numberWithin(0, Number.MAX_VALUE, 'a number from 0').optional(),
  }),
  importance_sampling: z.strictObject({
    clip: z
      .union(
        [
          z.null(),
          z
            .number()
            .positive()
            .transform((width) => ({ low: width, high: width })),
          z.strictObject({ low: z.number().positive(), high: z.number().positive() }),
        ],
        { error: 'null, a positive number, or { low, high }' },
      )
      .default({ low: 0.2, high: 0.2 }),
    beta: numberWithin(0, Number.MAX_VALUE, 'a number from 0').default(0),
    normalize: word(['token', 'sequence']).default('token'),
  }),
} satisfies Record<LossName, z.ZodType>

/** Names of the built-in losses. */
export type LossName = 'cross_entropy' | 'dpo' | 'orpo' | 'kto' | 'importance_sampling'
/** A loss with its options. */
export type LossOptions =
  | { name: 'cross_entropy' }
  | { name: 'dpo'; beta?: number; lossType?: 'sigmoid' | 'ipo'; labelSmoothing?: number }
  | { name: 'orpo'; beta?: number; nllOn?: NllOn }
  | {
      name: 'kto'
      beta?: number
      desirableWeight?: number
      undesirableWeight?: number
      /** Divergence from the reference. Default: measured on the mismatched rows (`kl`). */
      kl?: number
    }
  | {
      name: 'importance_sampling'
      clip?: number | { low: number; high: number } | null
      /** Weight of the divergence from the reference. */
      beta?: number
      normalize?: 'token' | 'sequence'
    }
/** A named loss with its defaults filled in. */
export type NamedLoss = { [Name in LossName]: { name: Name } & z.output<(typeof schemas)[Name]> }[LossName]

const NAMES = Object.keys(schemas) as LossName[]

/** @throws {ConfigError} for an unknown loss or an invalid option */
export function namedLoss(loss: unknown, name: string): NamedLoss {
  const { name: which, ...options } = isRecord(loss) ? loss : { name: loss }
  const found = NAMES.find((known) => known === which)
  if (found === undefined)
    throw badArgument(which, name, 'loss', `one of ${NAMES.join(', ')}, or a function of log-probabilities`)
  const source = { name, spelling: 'camel', at: 'loss' } as const
  const parsed = parseOptions<Record<string, unknown>>(schemas[found], options, source)
  const { labelSmoothing } = parsed
  if (parsed.lossType === 'ipo' && labelSmoothing !== 0)
    throw badArgument(labelSmoothing, name, 'loss.labelSmoothing', '0 with the loss type ipo, which has none')
  return { name: found, ...parsed } as NamedLoss
}

/** True for rows of a micro-batch whose tokens of weight 0 are scored too: the chosen ones, every other row. */
export function scoresAll(loss: Readonly<{ name: string; nllOn?: NllOn }>): (row: number) => boolean {
  const isWhole = loss.name === 'orpo' && loss.nllOn === 'all'
  return (row) => isWhole && row % 2 === 0
}

/** The counts that losses over these rows are divided by. */
export function denominatorsOf(loss: NamedLoss, groups: readonly (readonly TokenRow[])[]): Denominators {
  const rows = groups.flatMap((group) =>
    loss.name === 'orpo' ? group.slice(0, 1).map((chosen) => nllRow(chosen, loss.nllOn)) : group,
  )
  const tokens = rows.reduce((sum, row) => sum + weightOf(row), 0)
  return { tokens, rows: groups.flat().length, pairs: groups.length }
}

/** The count that a loss averages over; null for ORPO, which has two. */
export function denominatorOf(loss: NamedLoss): keyof Denominators | null {
  switch (loss.name) {
    case 'cross_entropy':
      return 'tokens'
    case 'dpo':
      return 'pairs'
    case 'kto':
      return 'rows'
    case 'importance_sampling':
      return loss.normalize === 'token' ? 'tokens' : 'rows'
    case 'orpo':
      return null
  }
}

/** @param kl KTO's divergence estimate, unless its options set one */
export function lossOf(loss: NamedLoss, rows: readonly ScoredRow[], per: Denominators, kl = 0): LossValue {
  switch (loss.name) {
    case 'cross_entropy':
      return crossEntropy(rows, per)
    case 'dpo':
      return dpo(pairsOf(rows), loss, per)
    case 'orpo':
      return orpo(pairsOf(rows), loss, per)
    case 'kto':
      return kto(rows, loss, loss.kl ?? kl, per)
    case 'importance_sampling':
      return policyGradient(rows, loss, per)
  }
}

function pairsOf(rows: readonly ScoredRow[]): ScoredPair[] {
  const pairs: ScoredPair[] = []
  for (let i = 0; i + 1 < rows.length; i += 2)
    pairs.push({ chosen: rows[i] as ScoredRow, rejected: rows[i + 1] as ScoredRow })
  return pairs
}

/** True if a row of the group has no weight, so that there is nothing to learn from the row or pair. */
export const isWeightless = (group: readonly TokenRow[]): boolean =>
  group.some(({ weights }) => weights.every((weight) => weight === 0))

/**
 * @param groups rows or pairs, of which those without weights are skipped
 * @throws {ConfigError} when a row lacks a field that the loss needs, naming both
 */
export function checkNeeds(loss: NamedLoss, groups: readonly (readonly TokenRow[])[], name: string): void {
  const paired = hasPairs(loss.name)
  for (const [index, group] of groups.entries())
    for (const [side, row] of isWeightless(group) ? [] : group.entries()) {
      const at = paired ? `batch.${index}.${['chosen', 'rejected'][side]}` : `batch.${index}`
      const needs = (field: string, expected: string) => {
        throw badArgument(undefined, name, `${at}.${field}`, `${expected}, which ${loss.name} needs`)
      }
      const positiveOnly = loss.name === 'orpo' || (loss.name === 'dpo' && loss.lossType === 'ipo')
      if (positiveOnly && weightOf(row) <= 0)
        throw badArgument(weightOf(row), name, `${at}.weights`, 'a positive sum, which it divides by')
      if ((loss.name === 'dpo' || loss.name === 'kto') && row.reference === undefined)
        needs('reference', 'log-probabilities of the tokens by the reference, or their sum')
      if (loss.name === 'kto' && row.label === undefined) needs('label', 'true or false')
      if (loss.name === 'kto' && loss.kl === undefined && row.kl?.reference === undefined)
        needs('kl', 'a row with a reference, or the option kl')
      if (loss.name === 'importance_sampling' && row.advantages === undefined)
        needs('advantages', 'a number, or one for each token')
      if (loss.name === 'importance_sampling' && loss.beta > 0 && typeof row.reference !== 'object')
        needs('reference', 'a log-probability for each token, since beta is above 0')
    }
}
