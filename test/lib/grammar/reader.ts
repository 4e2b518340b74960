/** Runs the tables of a grammar over texts, the plain way. */
import type { GrammarTables } from '../../../lib/native/addon.js'

type Stack = readonly [state: number, below: Stack | null]

/** A place in a grammar: the states that may come next, each on those that come after its rule. */
export class Reader {
  #open: Stack[]
  #ended = false

  constructor(readonly tables: GrammarTables) {
    this.#open = this.#closed([[tables.start, null]])
  }

  /** True if the text so far is a whole one. */
  get whole(): boolean {
    return this.#ended
  }

  /** @returns false if no text of the grammar begins so */
  read(bytes: Iterable<number>): boolean {
    const { edgeBegin, edgeLow, edgeHigh, edgeTo } = this.tables
    for (const byte of bytes) {
      const next: Stack[] = []
      for (const [state, below] of this.#open)
        for (let e = edgeBegin[state] as number; e < (edgeBegin[state + 1] as number); e++)
          if ((edgeLow[e] as number) <= byte && byte <= (edgeHigh[e] as number))
            next.push([edgeTo[e] as number, below])
      this.#open = this.#closed(next)
    }
    return this.#open.length > 0 || this.#ended
  }

  #closed(stacks: Stack[]): Stack[] {
    const { callBegin, callStart, callTo, accepts } = this.tables
    const seen = new Set<string>()
    const found: Stack[] = []
    this.#ended = false
    for (let stack = stacks.pop(); stack !== undefined; stack = stacks.pop()) {
      const [state, below] = stack
      const key = String(stack)
      if (seen.has(key)) continue
      seen.add(key)
      found.push(stack)
      for (let c = callBegin[state] as number; c < (callBegin[state + 1] as number); c++)
        stacks.push([callStart[c] as number, [callTo[c] as number, below]])
      if (!accepts[state]) continue
      if (below === null) this.#ended = true
      else stacks.push([below[0], below[1]])
    }
    return found
  }
}

/** True if a text is one of the grammar. */
export function reads(tables: GrammarTables, text: string): boolean {
  const reader = new Reader(tables)
  return reader.read(Buffer.from(text)) && reader.whole
}
