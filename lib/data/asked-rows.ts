/** Collects a limited number of dataset rows as questions with expected answers, to be asked when a run is over. */
import type { RowEncoder } from './encode.js'
import { rulesOf } from './forms/index.js'
import type { Around, DatasetRow, Question } from './rows.js'

/** The question of a row and its expected answer. */
export interface AskedRow extends Question {
  /** Index of the example in the dataset, from 0. */
  index: number
  /** Absent for chats. */
  around?: Around
}

/** Rows as they cross between processes: each distinct JSON of tools once. */
export interface SentRows {
  /** `tools`: index among the JSON of all tools sent so far. */
  rows: (Omit<AskedRow, 'tools'> & { tools?: number })[]
  /** JSON of tools that no earlier rows had. */
  tools: string[]
}

/** Rendering of rows for training. */
type Rendering = Pick<RowEncoder, 'lastAnswer' | 'rendersChat'>

const MOST_ROWS = 1000
const MOST_CHARACTERS = 1 << 20
/** Longest prompt or answer, in characters. */
const LONGEST = 4000
/** Longest JSON of tools, in characters. */
const LONGEST_TOOLS = 1 << 16

/** Collects rows that can be asked, starting with the first. */
export class AskedRowCollector {
  #new: SentRows = { rows: [], tools: [] }
  #rows = 0
  #characters = 0
  /** Index of each JSON of tools. */
  readonly #tools = new Map<string, number>()
  readonly #rendering: Rendering

  constructor(rendering: Rendering) {
    this.#rendering = rendering
  }

  add(row: DatasetRow, index: number): void {
    if (this.#rows >= MOST_ROWS || this.#characters > MOST_CHARACTERS) return
    const asked = questionOf(row, this.#rendering)
    if (asked === undefined) return
    const { tools, ...own } = asked
    const { prompt, expected, system } = own
    if (prompt.trim() === '' || expected.trim() === '') return
    if (prompt.length > LONGEST || expected.length > LONGEST || (system?.length ?? 0) > LONGEST) return
    if (tools !== undefined && tools.length > LONGEST_TOOLS) return
    this.#rows++
    this.#characters += prompt.length + expected.length + (system?.length ?? 0)
    this.#new.rows.push({ index, ...own, ...(tools === undefined ? {} : { tools: this.#indexOf(tools) }) })
  }

  /** Equal tools count once. */
  #indexOf(tools: string): number {
    const known = this.#tools.get(tools)
    if (known !== undefined) return known
    this.#characters += tools.length
    this.#new.tools.push(tools)
    this.#tools.set(tools, this.#tools.size)
    return this.#tools.size - 1
  }

  /** Returns the rows collected since the last call. */
  take(): SentRows {
    const taken = this.#new
    this.#new = { rows: [], tools: [] }
    return taken
  }
}

/** Reads what collectors send, so that rows with equal tools share one text. */
export class AskedRowReader {
  readonly #tools: string[] = []

  read({ rows, tools }: SentRows): AskedRow[] {
    this.#tools.push(...tools)
    return rows.map(({ tools: index, ...row }) =>
      index === undefined ? row : { ...row, tools: this.#tools[index] as string },
    )
  }
}

/** The first question of a row; undefined if it cannot be asked. */
function questionOf(row: DatasetRow, rendering: Rendering): Omit<AskedRow, 'index'> | undefined {
  const rules = rulesOf(row)
  if ('answers' in rules) {
    const expected = rules.expected(row)
    return expected && questionOf(expected, rendering)
  }
  const question = rules.question(row, rendering)
  if (question === undefined || rendering.rendersChat(row)) return question
  return { ...question, around: rules.around?.(row) ?? { prefix: '', suffix: '' } }
}
