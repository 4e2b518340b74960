/** Formats numbers, times, paths and tables for people; sizes are formatted in lib/planning/memory-report.ts. */
import { relative } from 'node:path'
import { quote } from '../core/quote.js'

/** `1,234,567`, regardless of the machine's locale. */
export function formatCount(count: number): string {
  return count.toLocaleString('en-US')
}

/** `1 row`, `3,000 rows`. */
export function counted(count: number, thing: string): string {
  return `${formatCount(count)} ${thing}${count === 1 ? '' : 's'}`
}

/** Three digits, without an exponent: `0.123`, `1.23`, `123`. */
export function digits(value: number): string {
  if (value >= 100) return value.toFixed(0)
  return value >= 10 ? value.toFixed(1) : value.toFixed(2)
}

/** Three digits and an SI prefix: `950`, `12.3 M`, `1.23 T`. */
export function formatMany(value: number): string {
  const prefixes = ['', 'k', 'M', 'G', 'T', 'P', 'E']
  const power = Math.min(prefixes.length - 1, Math.floor(Math.log10(Math.max(1, value)) / 3))
  return power === 0 ? String(value) : `${digits(value / 1000 ** power)} ${prefixes[power]}`
}

const TIME_UNITS: Readonly<Record<string, number>> = { s: 1, m: 60, min: 60, h: 3600 }

/** Parses a time such as `90`, `90s`, `30m`, or `3h` into seconds; undefined for zero or anything else. */
export function secondsIn(text: string): number | undefined {
  const [, digits, unit = 's'] = /^(\d+(?:\.\d+)?) ?(s|m|min|h)?$/.exec(text) ?? []
  const value = Number(digits) * (TIME_UNITS[unit] as number)
  return value > 0 ? value : undefined
}

/** `42 s`, `3 min 05 s`, `2 h 07 min`. */
export function formatDuration(seconds: number): string {
  const whole = Math.round(seconds)
  const two = (part: number) => String(part).padStart(2, '0')
  if (whole < 60) return `${whole} s`
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${two(whole % 60)} s`
  return `${Math.floor(whole / 3600)} h ${two(Math.floor((whole % 3600) / 60))} min`
}

/** The path relative to the current folder, if it is inside. */
export function shortPath(path: string): string {
  const short = relative('', path) || '.'
  return short.startsWith('..') ? path : short
}

/**
 * A table with aligned columns, separated by two spaces.
 * @param right indices of right-aligned columns, usually numbers
 */
export function table(rows: readonly (readonly string[])[], right: readonly number[] = []): string {
  const widths: number[] = []
  for (const row of rows) {
    for (const [i, cell] of row.entries()) widths[i] = Math.max(widths[i] ?? 0, cell.length)
  }
  const line = (row: readonly string[]) =>
    row
      .map((cell, i) => (right.includes(i) ? cell.padStart(widths[i] ?? 0) : cell.padEnd(widths[i] ?? 0)))
      .join('  ')
      .trimEnd()
  return rows.map(line).join('\n')
}

/**
 * A table with a header row, for a terminal of `columns` columns. If it is too wide, each row becomes a list
 * under its first cell.
 */
export function fittedTable(
  [head = [], ...rows]: readonly (readonly string[])[],
  columns: number,
  right: readonly number[] = [],
): string {
  const whole = table([head, ...rows], right)
  if (whole.split('\n').every((line) => line.length <= columns)) return whole
  const list = ([first = '', ...cells]: readonly string[]) =>
    `${first}\n${facts(cells.map((cell, i) => [`  ${head[i + 1]}`, cell] as const))}`
  return rows.map(list).join('\n\n')
}

/** Named facts, one per line; facts without a value are omitted. */
export function facts(entries: readonly (readonly [string, string | number | undefined])[]): string {
  const known = entries.filter(([, value]) => value !== undefined && value !== '')
  return table(known.map(([name, value]) => [name, String(value)]))
}

/** Most classes in a line. */
const CLASSES_SHOWN = 20

/** The classes of data with their rows: `2: sports 24, arts 20`. */
export function classesText(classes: readonly { label: string; rows: number }[]): string {
  const shown = classes.slice(0, CLASSES_SHOWN).map(({ label, rows }) => {
    const plain = /^[\p{L}\p{N}_-]+$/u.test(label)
    return `${plain ? label : quote(label)} ${formatCount(rows)}`
  })
  const rest = classes.length - shown.length
  return `${formatCount(classes.length)}: ${shown.join(', ')}${rest > 0 ? `, and ${formatCount(rest)} more` : ''}`
}
