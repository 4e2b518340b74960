/** Wraps text for a terminal between words. */
import stringWidth from 'string-width'
import wrapAnsi from 'wrap-ansi'

/** Placeholder for a space at which lines must not break. */
const JOINED = '\ue000'

/** A command at the end of a line, which must stay whole so that it can be copied and pasted. */
const COMMAND = /^\s+(?:\S.*? {2,})?(?:\$ )?(?:npx )?lowrank (?!.* {2})/

/** Least width in which text is readable. */
const LEAST_ROOM = 24

/** A number with its unit. */
const NUMBER = /^[\d.,]+( \S{1,4})?$/

/** Indentation of a last column that stands below its row. */
const BELOW = 2

/**
 * Wraps lines that are wider than the terminal, between words and outside of `code`. Continuation lines are
 * indented like the first, or like the last column of a table; where that has no room, it stands below its row. A word
 * longer than a line is left to the terminal.
 */
export function wrapped(text: string, columns: number): string {
  return text
    .split('\n')
    .map((line) => (stringWidth(line) <= columns || COMMAND.test(line) ? line : wrappedLine(line, columns)))
    .join('\n')
}

function wrappedLine(line: string, columns: number): string {
  if (/^-+$/.test(line)) return line.slice(0, columns)
  const [indent] = /^ */.exec(line) as RegExpExecArray
  const head = /^.*\S {2,}(?=\S)/.exec(line)?.[0]
  if (head === undefined) return filled(indent, line.slice(indent.length), columns)
  const rest = line.slice(head.length)
  const width = stringWidth(head)
  if (width <= columns / 2 || columns - width >= LEAST_ROOM) return filled(head, rest, columns)
  const below = () => filled(' '.repeat(indent.length + BELOW), rest, columns)
  const fits = NUMBER.test(rest) ? narrowed(line, columns) : undefined
  return fits ?? `${wrapped(head.trimEnd(), columns)}\n${below()}`
}

/** A text behind the beginning of its line, wrapped and indented like its first word. */
function filled(head: string, text: string, columns: number): string {
  const hang = stringWidth(head)
  const room = columns - hang
  const joined = text.replace(/`[^`]+`/g, (code) =>
    code.length <= room ? code.replaceAll(' ', JOINED) : code,
  )
  const rows = wrapAnsi(joined, room).replaceAll(JOINED, ' ').split('\n')
  return head + rows.join(`\n${' '.repeat(hang)}`)
}

/** The row of a table of numbers with less space in its widest gap, so that it fits; undefined if the gap has too little. */
function narrowed(line: string, columns: number): string | undefined {
  const gaps = [...line.matchAll(/(?<=\S) {3,}(?=\S)/g)].sort(([a], [b]) => b.length - a.length)
  const [widest] = gaps
  const excess = stringWidth(line) - columns
  if (widest === undefined || widest[0].length - excess < 2) return undefined
  return line.slice(0, widest.index) + line.slice(widest.index + excess)
}
