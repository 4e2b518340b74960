/**
 * Output at the end of `lowrank train`: a few rows answered by the base and the tuned model, or classified, and
 * how to repeat one answer.
 */
import stringWidth from 'string-width'
import wrapAnsi from 'wrap-ansi'
import type { PromptFormat } from '../formats/prompt-format.js'
import { ANSWER_TOKENS } from '../planning/plans.js'
import { splitReasoning } from '../tokenizer/reasoning.js'
import type { ClassifiedRow, Samples } from '../train/answers/samples.js'
import { isRight } from '../train/measures/answer-scores.js'
import type { StepAnswer } from '../train/steps/events.js'
import { printable } from './output.js'

const NAMES = ['prompt', 'expected', 'base', 'tuned'] as const
/** Width of the longest name plus a space or two. */
const INDENT = 10
/** Most lines of a printed text; JSON has the whole text. */
const MOST_LINES = 4

/** The rows as text for a terminal of `columns` columns. */
export function sampleLines({ rows, classified = [], heldOut }: Samples, columns: number): string[] {
  const texts = [
    ...rows.map((row) => rowLines(row, columns)),
    ...classified.map((row) => classifiedLines(row, columns)),
  ]
  if (texts.length === 0) return []
  const what = heldOut ? 'held-out rows' : 'rows of the training data'
  const are = texts.length === 1 ? `one of the ${what} is` : `${texts.length} ${what} are`
  const title = `How ${are} ${rows.length > 0 ? 'answered' : 'classified'}`
  return [title, ...texts.flatMap((lines) => ['', ...lines])]
}

function classifiedLines(
  { text, expected, predicted, probability }: ClassifiedRow,
  columns: number,
): string[] {
  const verdict = predicted === expected ? '' : ', which is wrong'
  return [
    ...namedLines('text', text, columns),
    ...namedLines('class', expected, columns),
    ...namedLines('predicted', `${predicted}, at ${Math.round(100 * probability)} %${verdict}`, columns),
  ]
}

/**
 * Answers between steps, one per line: whether it is correct, the beginning of the question, and the answer without
 * reasoning.
 */
export function answerLines(rows: readonly StepAnswer[], columns: number, unicode: boolean): string[] {
  const [right, wrong, arrow, more] = unicode ? ['✓', '✗', '→', '…'] : ['+', '-', '->', '...']
  const cut = (text: string, width: number) => {
    const line = printable(text).replace(/\s+/g, ' ').trim()
    return stringWidth(line) <= width ? line : `${brokenText(line, width - more.length)[0]}${more}`
  }
  const room = Math.max(30, columns - 6)
  return rows.map(({ prompt, expected, answer }) => {
    const mark = isRight(answer, expected) ? right : wrong
    const begin = `${mark} ${cut(prompt, Math.floor(room / 3))} ${arrow} `
    return `    ${begin}${cut(splitReasoning(answer).answer, room - stringWidth(begin))}`
  })
}

/** Why there are no rows, if some were expected. */
export function whyNone({ rows, late }: Samples): string | undefined {
  return rows.length === 0 && late ? 'none was answered within half a minute' : undefined
}

function rowLines(row: Samples['rows'][number], columns: number): string[] {
  return NAMES.flatMap((name) => namedLines(name, row[name], columns))
}

/** A text beside its name. */
function namedLines(name: string, text: string, columns: number): string[] {
  const lines = brokenText(printable(text).trim(), Math.max(20, columns - INDENT - 2))
  const shown = lines.length > MOST_LINES ? [...lines.slice(0, MOST_LINES - 1), '…'] : lines
  return shown.map((line, i) => `  ${(i === 0 ? name : '').padEnd(INDENT)}${line}`.trimEnd())
}

/** Splits a model's text into lines, also within words that are longer than a line. */
export function brokenText(text: string, columns: number): string[] {
  return text.split('\n').flatMap((line) => {
    const rows = wrapAnsi(line, columns, { hard: true, trim: false }).split('\n')
    return rows.map((row, i) => (i === 0 ? row : row.trimStart()))
  })
}

/** Flag of a command for rows with tools, whose file the user names. */
export const TOOLS_FLAG = '--tools FILE'

/**
 * Command that repeats one of the tuned answers; null if none can be repeated.
 * @param format prompt format of the adapter
 * @param call the config and its overrides, as on a command line
 * @param quoted quotes a word for a shell
 */
export function repeatCommand(
  { rows, system }: Samples,
  format: PromptFormat | null,
  call: string,
  quoted: (word: string) => string,
): string | null {
  // Generation puts the adapter's texts around every raw prompt.
  const isOpen = format === null || (format.prefix === '' && format.suffix === '')
  const repeatable = rows.filter(({ form }) => form !== 'raw' || isOpen)
  const [shortest] = repeatable.sort((a, b) => a.prompt.length - b.prompt.length)
  if (shortest === undefined) return null
  const { prompt, cut, form } = shortest
  // A prompt that begins with a dash would be read as a flag.
  const words = prompt.startsWith('-') ? [`--prompt=${quoted(prompt)}`] : ['--prompt', quoted(prompt)]
  const told =
    shortest.system === null || shortest.system === system ? [] : ['--system', quoted(shortest.system)]
  const tools = shortest.tools === undefined ? [] : [TOOLS_FLAG]
  const how = form === undefined ? [] : [`--${form}`]
  const length = cut ? ['--max-new-tokens', String(ANSWER_TOKENS)] : []
  return ['npx lowrank generate', call, ...told, ...tools, ...how, ...length, ...words].join(' ')
}
