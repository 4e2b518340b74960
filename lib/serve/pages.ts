/** Lists by pages, as OpenAI's clients read them: they go on from the last id that they have seen. */
import { ApiError, invalid } from './errors.js'

export interface Page<T> {
  object: 'list'
  data: T[]
  has_more: boolean
  first_id: string | null
  last_id: string | null
}

/**
 * A page of a list.
 * @param items all items, in the order of the answer
 * @param most items of a page, if the query does not say
 * @throws {ApiError} for a limit out of range, or an `after` that is not in the list
 */
export function page<T extends { id: string }>(
  items: readonly T[],
  query: Readonly<Record<string, string>>,
  most: number,
): Page<T> {
  const limit = query.limit === undefined ? most : Number(query.limit)
  if (!Number.isInteger(limit) || limit < 1 || limit > 10_000)
    throw invalid(
      'limit',
      `Invalid value for 'limit': expected an integer from 1 to 10000; got ${query.limit}.`,
    )
  const first = indexAfter(items, query.after)
  const data = items.slice(first, first + limit)
  return {
    object: 'list',
    data,
    has_more: first + limit < items.length,
    first_id: data[0]?.id ?? null,
    last_id: data.at(-1)?.id ?? null,
  }
}

/**
 * Index of the item that follows the one with an id; 0 without an id.
 * @throws {ApiError} for an id that is not in the list
 */
export function indexAfter(items: readonly { id: string }[], after: string | undefined): number {
  if (after === undefined) return 0
  const seen = items.findIndex(({ id }) => id === after)
  if (seen < 0) throw new ApiError(404, `There is nothing with the id ${after} in this list.`, null, 'after')
  return seen + 1
}
