/** Text on a terminal, whose lines end between two words. */
import stringWidth from 'string-width'
import wrapAnsi from 'wrap-ansi'

/** Stands for a space at which no line may end. */
const JOINED = '\ue000'

/** A command to copy that ends its line: one that is broken cannot be pasted. */
const COMMAND = /^\s+(?:\S.*? {2,})?(?:\$ )?(?:npx )?lowrank (?!.* {2})/

/** Columns in which text still reads well. */
const LEAST_ROOM = 24

/**
 * Breaks lines that are longer than a terminal is wide, between words and outside of `code`. Lines below the first are
 * indented like it, or like the last column of a table. A word that is longer than a line is left to the terminal.
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
