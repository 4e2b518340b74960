/** The last answers of `/v1/responses`, in memory only: a later request may go on from them. */
import { ApiError, invalid } from './errors.js'
import type { Item, OutputItem, ResponseObject, Said } from './response-items.js'

const MOST = 1024
const MOST_BYTES = 64 << 20

interface Stored {
  response: ResponseObject
  items: readonly Item[]
  bytes: number
}

export class StoredResponses implements Said {
  readonly #stored = new Map<string, Stored>()
  #bytes = 0

  /** Keeps an answer and all items before it; the oldest ones make room. */
  keep(response: ResponseObject, items: readonly Item[]): void {
    const bytes = JSON.stringify([response, items]).length
    this.#stored.set(response.id, { response, items, bytes })
    this.#bytes += bytes
    for (const id of this.#stored.keys()) {
      if (this.#stored.size <= MOST && this.#bytes <= MOST_BYTES) return
      this.remove(id)
    }
  }

  /** @throws {ApiError} for an answer that is not kept */
  get(id: string): ResponseObject {
    const stored = this.#stored.get(id)
    if (stored === undefined)
      throw new ApiError(404, `Response with id '${id}' not found.`, 'not_found', 'id')
    return stored.response
  }

  /** @throws {ApiError} for an answer that is not kept */
  remove(id: string): void {
    this.get(id)
    this.#bytes -= this.#stored.get(id)?.bytes ?? 0
    this.#stored.delete(id)
  }

  /**
   * All items up to the end of an answer.
   * @throws {ApiError} for an answer that is not kept
   */
  itemsOf(id: string): readonly Item[] {
    const stored = this.#stored.get(id)
    if (stored !== undefined) return stored.items
    throw invalid(
      'previous_response_id',
      `Previous response with id '${id}' not found. The server keeps the last answers in memory.`,
      'previous_response_not_found',
    )
  }

  /**
   * An item of an answer.
   * @throws {ApiError} for an item of no answer that is kept
   */
  item(id: string, param: string): OutputItem {
    for (const { response } of this.#stored.values()) {
      const found = response.output.find((item) => item.id === id)
      if (found !== undefined) return found
    }
    throw invalid(param, `Item with id '${id}' not found. The server keeps the last answers in memory.`)
  }
}
