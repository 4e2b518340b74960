/** Validates rows of tokens passed by programs. */
import { badArgument } from '../core/arguments.js'
import { isRecord } from '../core/schema-shape.js'

/** One number per token. */
export type Numbers = readonly number[] | Float64Array | Float32Array | Uint8Array

/** A row of tokens. Arrays have one entry per token, aligned with the token itself; entry 0 is never scored. */
export interface Row {
  /** Token ids, at least 2. */
  tokens: readonly number[] | Int32Array
  /** Weight of each token in the loss, any finite number; the first must be 0. Default: 1 from the second token on. */
  weights?: Numbers
  /** `importance_sampling`: log-probabilities at sampling time. Default: the current model's. */
  logprobs?: Numbers
  /**
   * Log-probabilities under the reference model: one per token, or their weighted sum. Required by `dpo` and
   * `kto`; `importance_sampling` with `beta` above 0 requires one per token.
   */
  reference?: number | Numbers
  /** `importance_sampling`: advantage of the row, or one per token. */
  advantages?: number | Numbers
  /** `kto`: true for a desirable answer. */
  label?: boolean
  /** `kto`: a mismatched row, such as this prompt with the answer to another. */
  kl?: Row
}

/** A chosen and a rejected row. */
export interface Pair {
  chosen: Row
  rejected: Row
}

/** A validated row. */
export interface TokenRow {
  readonly tokens: Int32Array
  readonly weights: Float64Array
  readonly sampled?: Float64Array
  readonly reference?: number | Float64Array
  readonly advantages?: number | Float64Array
  readonly label?: boolean
  readonly kl?: TokenRow
}

const ROW = 'a row such as { tokens: [1, 2, 3], weights: [0, 0, 1] }'

/** @throws {ConfigError} for anything but a list of valid rows, naming the row and field */
export function checkedRows(batch: unknown, vocabulary: number, name: string, at = 'batch'): TokenRow[] {
  if (!Array.isArray(batch) || batch.length === 0)
    throw badArgument(batch, name, at, `a list of at least one row, ${ROW}`)
  return batch.map((row, index) => checkedRow(row, vocabulary, name, `${at}.${index}`))
}

/** The rows of a pair, in order. */
export const SIDES = ['chosen', 'rejected'] as const

/** Chosen and rejected rows of each pair. */
export function checkedPairs(batch: unknown, vocabulary: number, name: string, at = 'batch'): TokenRow[][] {
  const expected = 'a pair of rows { chosen: { tokens, … }, rejected: { tokens, … } }'
  if (!Array.isArray(batch) || batch.length === 0)
    throw badArgument(batch, name, at, `a list of at least one ${expected.slice(2)}`)
  return batch.map((pair, index) => {
    if (!isRecord(pair)) throw badArgument(pair, name, `${at}.${index}`, expected)
    for (const side of SIDES)
      if (!isRecord(pair[side])) throw badArgument(pair[side], name, `${at}.${index}.${side}`, ROW)
    const [chosen, rejected] = SIDES.map((side) =>
      checkedRow(pair[side], vocabulary, name, `${at}.${index}.${side}`),
    ) as [TokenRow, TokenRow]
    if (sameNumbers(chosen.tokens, rejected.tokens))
      throw badArgument('the same tokens as chosen', name, `${at}.${index}.rejected`, 'another answer')
    return [chosen, rejected]
  })
}

/** Most tokens in a micro-batch, of which a larger group gets its own; or the number of groups in each. */
export type Split = number | readonly number[]

/**
 * The rows or pairs of a batch, in groups, and how they share micro-batches.
 * @param capacity most tokens in a micro-batch, unless the batch is a list of micro-batches
 */
export function checkedBatch(
  batch: unknown,
  paired: boolean,
  vocabulary: number,
  name: string,
  capacity: number,
): { groups: TokenRow[][]; split: Split } {
  const checked = (part: unknown, at?: string) =>
    paired
      ? checkedPairs(part, vocabulary, name, at)
      : checkedRows(part, vocabulary, name, at).map((row) => [row])
  if (!Array.isArray(batch) || !Array.isArray(batch[0])) return { groups: checked(batch), split: capacity }
  const parts = batch.map((part, index) => checked(part, `batch.${index}`))
  return { groups: parts.flat(), split: parts.map(({ length }) => length) }
}

function checkedRow(row: unknown, vocabulary: number, name: string, at: string): TokenRow {
  if (!isRecord(row)) throw badArgument(row, name, at, ROW)
  const { tokens: given, weights, logprobs, reference, advantages, label, kl } = row
  if (!isNumbers(given) || given.length < 2)
    throw badArgument(given, name, `${at}.tokens`, 'at least 2 token ids')
  const tokens = Int32Array.from(given)
  for (const [t, id] of [...given].entries())
    if (!Number.isInteger(id) || id < 0 || id >= vocabulary)
      throw badArgument(id, name, `${at}.tokens.${t}`, `a token id from 0 to ${vocabulary - 1}`)
  const each = (value: unknown, field: string) => numbersOf(value, tokens.length, name, `${at}.${field}`)
  const oneOrEach = (value: unknown, field: string) =>
    typeof value === 'number' ? finite(value, name, `${at}.${field}`) : each(value, field)
  const own = weights === undefined ? undefined : each(weights, 'weights')
  if (own !== undefined && own[0] !== 0)
    throw badArgument(
      own[0],
      name,
      `${at}.weights.0`,
      '0: nothing comes before the first token to predict it from',
    )
  if (label !== undefined && typeof label !== 'boolean')
    throw badArgument(label, name, `${at}.label`, 'true or false')
  return {
    tokens,
    weights: own ?? Float64Array.from(tokens, (_, t) => (t === 0 ? 0 : 1)),
    ...(logprobs === undefined ? {} : { sampled: each(logprobs, 'logprobs') }),
    ...(reference === undefined ? {} : { reference: oneOrEach(reference, 'reference') }),
    ...(advantages === undefined ? {} : { advantages: oneOrEach(advantages, 'advantages') }),
    ...(label === undefined ? {} : { label }),
    ...(kl === undefined ? {} : { kl: checkedRow(kl, vocabulary, name, `${at}.kl`) }),
  }
}

const isNumbers = (value: unknown): value is ArrayLike<number> & Iterable<number> =>
  Array.isArray(value) || (ArrayBuffer.isView(value) && !(value instanceof DataView))

/** @throws {ConfigError} for anything but `count` finite numbers */
export function numbersOf(value: unknown, count: number, name: string, at: string): Float64Array {
  if (!isNumbers(value)) throw badArgument(value, name, at, `${count} numbers, one for each token`)
  if (value.length !== count)
    throw badArgument(`${value.length} numbers`, name, at, `${count}, one for each token`)
  const numbers = Float64Array.from(value as ArrayLike<number>)
  for (const [t, number] of numbers.entries())
    if (!Number.isFinite(number)) throw badArgument(number, name, `${at}.${t}`, 'a finite number')
  return numbers
}

function finite(value: number, name: string, at: string): number {
  if (Number.isFinite(value)) return value
  throw badArgument(value, name, at, 'a finite number')
}

function sameNumbers(one: Int32Array, other: Int32Array): boolean {
  return one.length === other.length && one.every((id, t) => id === other[t])
}
