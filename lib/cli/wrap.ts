/** Wraps text for a terminal between words. */
import stringWidth from 'string-width'
import wrapAnsi from 'wrap-ansi'

/** Placeholder for a space at which lines must not break. */
const JOINED = '\ue000'

/** A command at the end of a line, which must stay whole so that it can be copied and pasted. */
const COMMAND = /^\s+(?:\S.*? {2,})?(?:\$ )?(?:npx )?lowrank (?!.* {2})/

/** Least width in which text is readable. */
const LEAST_ROOM = 24

/**
 * Wraps lines that are wider than the terminal, between words and outside of `code`. Continuation lines are
 * indented like the first, or like the last column of a table. A word longer than a line is left to the
 * terminal.
 */
export function wrapped(text: string, columns: number): string {
  return text
    .split('\n')
    .map((line) => (stringWidth(line) <= columns || COMMAND.test(line) ? line : wrappedLine(line, columns)))
    .join('\n')
}

function wrappedLine(line: string, columns: number): string {
  const hang = hangingIndent(line, columns)
  const room = columns - hang
  const joined = line
    .slice(hang)
    .replace(/`[^`]+`/g, (code) => (code.length <= room ? code.replaceAll(' ', JOINED) : code))
  const rows = wrapAnsi(joined, room).replaceAll(JOINED, ' ').split('\n')
  return line.slice(0, hang) + rows.join(`\n${' '.repeat(hang)}`)
}

function hangingIndent(line: string, columns: number): number {
  const gap = /^.*\S {2,}(?=\S)/.exec(line)?.[0].length ?? 0
  if (gap > 0 && (gap <= columns / 2 || columns - gap >= LEAST_ROOM)) return gap
  return (/^ */.exec(line) as RegExpExecArray)[0].length
}
