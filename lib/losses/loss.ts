/**
 * The record of a loss, which its own file exports: its options, the fields of rows that it needs, the count that it
 * averages over, and its value. Shared code reads these fields and never compares the name of a loss. To add one, write
 * such a file, and run `node scripts/records.mjs` and `node scripts/options.mjs`.
 */
import type * as z from 'zod'
import type { Denominators, LossValue, ScoredRow } from './rows.js'
import type { TokenRow } from './token-rows.js'

/** A field that a loss needs in each row. */
export interface Need {
  readonly field: string
  /** The expected value, for messages. */
  readonly expected: string
  has(row: TokenRow): boolean
}

/** Options of a loss with their defaults filled in. */
type OptionsOf<Schema extends z.ZodObject> = Readonly<z.output<Schema>>

/** A loss. Its options are those of its schema. */
export interface LossRules<Name extends string = string, Schema extends z.ZodObject = z.ZodObject> {
  readonly name: Name
  /** Description of the loss in the documentation, a clause without a period. */
  readonly about: string
  /** Options in camel case, each with its default. */
  readonly schema: Schema
  /** Rules between options. @throws the error that `bad` makes */
  check?(options: OptionsOf<Schema>, bad: (key: string, value: unknown, expected: string) => Error): void
  /** True if the loss compares a chosen and a rejected row; else it is of single rows. */
  readonly paired: boolean
  /** The count that the loss averages over; null if it divides one part by tokens and another by pairs. */
  averages(options: OptionsOf<Schema>): keyof Denominators | null
  /** Rows of a group whose weights count as tokens. Default: all. */
  counted?(group: readonly TokenRow[], options: OptionsOf<Schema>): readonly TokenRow[]
  /** True if all tokens of chosen rows are scored, whatever their weights. Default: false. */
  scoresChosen?(options: OptionsOf<Schema>): boolean
  /** True if the gradient does not depend on log-probabilities, so that one pass of the head computes both. */
  readonly onePass?: true
  /** True if the weights of each row must have a positive sum. Default: false. */
  dividesByWeights?(options: OptionsOf<Schema>): boolean
  needs(options: OptionsOf<Schema>): readonly Need[]
  /** True if each step first estimates the divergence from the reference on mismatched rows. Default: false. */
  measuresDivergence?(options: OptionsOf<Schema>): boolean
  /**
   * @param rows single rows, or chosen and rejected rows in turn
   * @param kl estimate of the divergence from the reference, at least 0; 0 if the loss measures none
   */
  value(rows: readonly ScoredRow[], options: OptionsOf<Schema>, per: Denominators, kl: number): LossValue
}

/** Infers the types of a loss from its name and schema. */
export const lossRules = <const Name extends string, Schema extends z.ZodObject>(
  rules: LossRules<Name, Schema>,
): LossRules<Name, Schema> => rules

export const REFERENCE: Need = {
  field: 'reference',
  expected: 'log-probabilities of the tokens by the reference, or their sum',
  has: ({ reference }) => reference !== undefined,
}
