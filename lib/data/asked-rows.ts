/** Collects a limited number of dataset rows as questions with expected answers, to be asked when a run is over. */
import type { DatasetRow } from './dataset.js'

/** The question of a row and its expected answer. */
export interface AskedRow {
  /** Index of the example in the dataset, from 0. */
  index: number
  prompt: string
  expected: string
  system: string | null
}

const MOST_ROWS = 1000
const MOST_CHARACTERS = 1 << 20
/** Longest prompt or answer, in characters. */
const LONGEST = 4000
/** Characters at the start of a document that serve as the prompt for the rest. */
const BEGINNING = 120

/** Collects rows that can be asked, starting with the first. */
export class AskedRowCollector {
  #new: AskedRow[] = []
  #rows = 0
  #characters = 0

  add(row: DatasetRow, index: number): void {
    if (this.#rows >= MOST_ROWS || this.#characters > MOST_CHARACTERS) return
    const asked = questionOf(row)
    if (asked === undefined) return
    const { prompt, expected, system } = asked
    if (prompt.trim() === '' || expected.trim() === '') return
    if (prompt.length > LONGEST || expected.length > LONGEST || (system?.length ?? 0) > LONGEST) return
    this.#rows++
    this.#characters += prompt.length + expected.length + (system?.length ?? 0)
    this.#new.push({ index, ...asked })
  }

  /** Returns the rows collected since the last call. */
  take(): AskedRow[] {
    return this.#new.splice(0)
  }
}

/** The first question of a row; undefined if it cannot be asked, e.g. because it needs tools. */
function questionOf(row: DatasetRow): Omit<AskedRow, 'index'> | undefined {
  switch (row.format) {
    case 'classification':
      return undefined
    case 'preference':
      return questionOf(row.chosen)
    case 'unpaired_preference':
      // A bad answer is not the expected one.
      return row.desirable ? questionOf(row.answer) : undefined
    case 'prompt_completion':
      return { prompt: row.prompt, expected: row.completion, system: null }
    case 'alpaca': {
      const { instruction, input, output, history, system = null } = row
      if (input !== '' || history.length > 0) return undefined
      return { prompt: instruction, expected: output, system }
    }
    case 'messages': {
      const [first] = row.messages
      const system = first?.role === 'system' ? first.content : null
      const [question, answer] = row.messages.slice(system === null ? 0 : 1)
      if (row.tools !== undefined || question?.role !== 'user' || answer?.role !== 'assistant')
        return undefined
      if (question.content === null || answer.content === null || answer.weight === 0) return undefined
      return { prompt: question.content, expected: answer.content, system }
    }
    case 'text': {
      const beginning = row.text.slice(0, Math.min(BEGINNING, row.text.length >> 1))
      const prompt = beginning.slice(0, Math.max(0, beginning.lastIndexOf(' ')))
      return { prompt, expected: row.text.slice(prompt.length, prompt.length + 2 * BEGINNING), system: null }
    }
  }
}
