/** Collects a limited number of dataset rows as questions with expected answers, to be asked when a run is over. */
import { pythonJson } from '../tokenizer/python-text.js'
import { splitReasoning } from '../tokenizer/reasoning.js'
import { alpacaAffixes } from './dataset/alpaca.js'
import type { DatasetRow, MessagesRow } from './dataset.js'
import type { RowEncoder } from './encode.js'
import { namesOf } from './prompt-tools.js'

/** The question of a row and its expected answer. */
export interface AskedRow {
  /** Index of the example in the dataset, from 0. */
  index: number
  prompt: string
  /** The answer without its reasoning; with tools, as a model writes it, with special tokens around calls. */
  expected: string
  system: string | null
  /** JSON of the tools' schemas. */
  tools?: string
  /** Text before and after the prompt of a row that is raw text; absent for chats. */
  around?: { prefix: string; suffix: string }
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
/** Characters at the start of a document that serve as the prompt for the rest. */
const BEGINNING = 120

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

type Asked = Omit<AskedRow, 'index'>

/** The first question of a row; undefined if it cannot be asked. */
function questionOf(row: DatasetRow, rendering: Rendering): Asked | undefined {
  const as = (around: NonNullable<AskedRow['around']>) => (rendering.rendersChat(row) ? {} : { around })
  switch (row.format) {
    case 'classification':
      return { prompt: row.text, expected: row.label, system: null, around: NOTHING }
    case 'preference':
      return questionOf(row.chosen, rendering)
    case 'unpaired_preference':
      // A bad answer is not the expected one.
      return row.desirable ? questionOf(row.answer, rendering) : undefined
    case 'prompt_completion':
      return { prompt: row.prompt, expected: row.completion, system: null, ...as(NOTHING) }
    case 'alpaca': {
      const { instruction, input, output, history, system = null } = row
      if (input !== '' || history.length > 0) return undefined
      return { prompt: instruction, expected: output, system, ...as(alpacaAffixes(row)) }
    }
    case 'messages':
      return firstQuestion(row, rendering)
    case 'text': {
      const beginning = row.text.slice(0, Math.min(BEGINNING, row.text.length >> 1))
      const prompt = beginning.slice(0, Math.max(0, beginning.lastIndexOf(' ')))
      const expected = row.text.slice(prompt.length, prompt.length + 2 * BEGINNING)
      return { prompt, expected, system: null, ...as(NOTHING) }
    }
  }
}

const NOTHING = { prefix: '', suffix: '' }

function firstQuestion(row: MessagesRow, rendering: Rendering): Asked | undefined {
  const { messages, tools } = row
  const system = messages[0]?.role === 'system' ? messages[0].content : null
  const at = system === null ? 0 : 1
  const [question, answer] = messages.slice(at)
  if (question?.role !== 'user' || answer?.role !== 'assistant') return undefined
  if (question.content === null || answer.weight === 0) return undefined
  // Prompts take no tools without names.
  if (tools !== undefined && namesOf(tools).length < tools.length) return undefined
  const asked = { prompt: question.content, system }
  const text =
    tools === undefined
      ? answer.content
      : rendering.lastAnswer({ ...row, messages: messages.slice(0, at + 2) })
  if (text === null || text === undefined) return undefined
  const expected = splitReasoning(text).answer
  return { ...asked, expected, ...(tools === undefined ? {} : { tools: pythonJson(tools) }) }
}
