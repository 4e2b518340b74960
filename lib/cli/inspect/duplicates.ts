/** Finds repeated rows in a dataset, and repeated prompts with different answers. */
import { createHash } from 'node:crypto'
import { promptOf } from '../../data/forms/index.js'
import type { DatasetRow } from '../../data/rows.js'
import { pythonJson } from '../../tokenizer/python-text.js'

/** Position of a row. */
export interface Place {
  path: string
  line: number
  /** Unit of `line`, if not lines. */
  unit?: 'row'
}

/** A row that repeats an earlier one. */
export interface Repeat extends Place {
  first: Place
}

export interface Repeats {
  rows: number
  /** The first few repeats. */
  examples: Repeat[]
}

const EXAMPLES = 3

export class Duplicates {
  /** Rows equal to an earlier one in every field that is used. */
  readonly rows: Repeats = { rows: 0, examples: [] }
  /** Rows with the prompt of an earlier one, but another answer. */
  readonly prompts: Repeats = { rows: 0, examples: [] }
  readonly #rows = new Map<string, Place>()
  readonly #prompts = new Map<string, Place>()

  add(row: DatasetRow): void {
    const { path, line, unit, ...content } = row
    const place: Place = { path, line, ...(unit ? { unit } : {}) }
    const repeated = seenBefore(this.#rows, content, place)
    const prompt = promptOf(row)
    const asked = prompt === undefined ? undefined : seenBefore(this.#prompts, prompt, place)
    if (repeated) count(this.rows, place, repeated)
    else if (asked) count(this.prompts, place, asked)
  }
}

/** Position of the first row with the same content. */
function seenBefore(seen: Map<string, Place>, content: unknown, place: Place): Place | undefined {
  // Stores 16 bytes of hash per row rather than text, since data may be large; collisions are practically impossible.
  const hash = createHash('sha256').update(pythonJson(content)).digest()
  const key = hash.toString('latin1', 0, 16)
  const first = seen.get(key)
  if (first === undefined) seen.set(key, place)
  return first
}

function count(repeats: Repeats, place: Place, first: Place): void {
  repeats.rows++
  if (repeats.examples.length < EXAMPLES) repeats.examples.push({ ...place, first })
}
