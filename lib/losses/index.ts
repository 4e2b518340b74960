/** The losses by name, and what shared code asks of them. */
import type * as z from 'zod'
import { badArgument } from '../core/arguments.js'
import { parseOptions } from '../core/schema.js'
import { isRecord } from '../core/schema-shape.js'
import { LOSSES } from './list.js'
import type { LossRules } from './loss.js'
import { type Denominators, type LossValue, type ScoredRow, weightOf } from './rows.js'
import { SIDES, type TokenRow } from './token-rows.js'
import type { LossName } from './types.js'

export type { LossName, LossOptions } from './types.js'
export { LOSSES }

/** A named loss with its defaults filled in. */
export type NamedLoss = Named<(typeof LOSSES)[number]>
type Named<Rules> =
  Rules extends LossRules<infer Name, infer Schema> ? { name: Name } & z.output<Schema> : never

const BY_NAME: ReadonlyMap<unknown, LossRules> = new Map(LOSSES.map((rules) => [rules.name, rules]))

/** The rules of a loss. */
export const lossRulesOf = ({ name }: { readonly name: LossName }): LossRules =>
  BY_NAME.get(name) as LossRules

/** @throws {ConfigError} for an unknown loss or an invalid option */
export function namedLoss(loss: unknown, name: string): NamedLoss {
  const { name: which, ...options } = isRecord(loss) ? loss : { name: loss }
  const rules = BY_NAME.get(which)
  if (rules === undefined) {
    const expected = `one of ${[...BY_NAME.keys()].join(', ')}, or a function of log-probabilities`
    throw badArgument(which, name, 'loss', expected)
  }
  const parsed = parseOptions(rules.schema, options, { name, spelling: 'camel', at: 'loss' })
  rules.check?.(parsed, (key, value, expected) => badArgument(value, name, `loss.${key}`, expected))
  return { name: rules.name, ...parsed } as NamedLoss
}

/** True for rows of a micro-batch whose tokens of weight 0 are scored too: the chosen ones, every other row. */
export function scoresAll(loss: NamedLoss): (row: number) => boolean {
  const isWhole = lossRulesOf(loss).scoresChosen?.(loss) ?? false
  return (row) => isWhole && row % 2 === 0
}

/** The counts that losses over these rows are divided by. */
export function denominatorsOf(loss: NamedLoss, groups: readonly (readonly TokenRow[])[]): Denominators {
  const rules = lossRulesOf(loss)
  const rows = groups.flatMap((group) => rules.counted?.(group, loss) ?? group)
  const tokens = rows.reduce((sum, row) => sum + weightOf(row), 0)
  return { tokens, rows: groups.flat().length, pairs: groups.length }
}

/** The count that a loss averages over; null if it has two. */
export const denominatorOf = (loss: NamedLoss): keyof Denominators | null => lossRulesOf(loss).averages(loss)

/** @param kl estimate of the divergence from the reference, if the loss measures it */
export function lossOf(loss: NamedLoss, rows: readonly ScoredRow[], per: Denominators, kl = 0): LossValue {
  return lossRulesOf(loss).value(rows, loss, per, kl)
}

/** True if a row of the group has no weight, so that there is nothing to learn from the row or pair. */
export const isWeightless = (group: readonly TokenRow[]): boolean =>
  group.some(({ weights }) => weights.every((weight) => weight === 0))

/**
 * @param groups rows or pairs, of which those without weights are skipped
 * @throws {ConfigError} when a row lacks a field that the loss needs, naming both
 */
export function checkNeeds(loss: NamedLoss, groups: readonly (readonly TokenRow[])[], name: string): void {
  const rules = lossRulesOf(loss)
  const needs = rules.needs(loss)
  for (const [index, group] of groups.entries())
    for (const [side, row] of isWeightless(group) ? [] : group.entries()) {
      const at = rules.paired ? `batch.${index}.${SIDES[side]}` : `batch.${index}`
      if (rules.dividesByWeights?.(loss) && weightOf(row) <= 0)
        throw badArgument(weightOf(row), name, `${at}.weights`, 'a positive sum, which it divides by')
      for (const { field, expected, has } of needs)
        if (!has(row))
          throw badArgument(undefined, name, `${at}.${field}`, `${expected}, which ${loss.name} needs`)
    }
}
