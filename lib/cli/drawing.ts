/** Bars and curves drawn with characters; ASCII only, if the terminal may not support more. */
import isUnicodeSupported from 'is-unicode-supported'
import { mean } from '../core/mean.js'

const BLOCKS = ' ▏▎▍▌▋▊▉█'
const LEVELS = '▁▂▃▄▅▆▇█'
const ASCII_LEVELS = '__..--=#'

/**
 * True if the terminal can show characters beyond ASCII. False on the Linux console, in the C locale, and in
 * old Windows consoles.
 */
export function hasUnicode({ env }: { env: NodeJS.ProcessEnv } = process): boolean {
  const locale = env.LC_ALL || env.LC_CTYPE || env.LANG || 'UTF-8'
  return isUnicodeSupported() && env.TERM !== 'linux' && /utf-?8/i.test(locale)
}

/** A progress bar with a resolution of an eighth of a cell. */
export function bar(share: number, cells: number, unicode: boolean): string {
  if (!unicode) {
    const full = Math.round(share * (cells - 2))
    return `[${'#'.repeat(full)}${'.'.repeat(cells - 2 - full)}]`
  }
  const eighths = Math.round(share * cells * 8)
  const part = eighths % 8 === 0 ? '' : BLOCKS[eighths % 8]
  return `${'█'.repeat(Math.floor(eighths / 8))}${part}`.padEnd(cells, '░')
}

/** A one-line curve. Each cell is the mean of its values; fewer values than cells give a shorter curve. */
export function sparkline(values: readonly number[], cells: number, unicode: boolean): string {
  const count = Math.min(cells, values.length)
  const means = Array.from({ length: count }, (_, i) => {
    const [begin, end] = [i, i + 1].map((at) => Math.floor((at * values.length) / count))
    return mean(values.slice(begin, end))
  })
  const [low, high] = [Math.min(...means), Math.max(...means)]
  const levels = unicode ? LEVELS : ASCII_LEVELS
  const level = (value: number) => (high === low ? 0 : Math.round(((value - low) / (high - low)) * 7))
  return means.map((value) => levels[level(value)]).join('')
}

/** Two texts at the ends of a line; the right one is omitted if it does not fit. */
export function justified(left: string, right: string, columns: number): string {
  const gap = columns - left.length - right.length
  return right === '' || gap < 1 ? left : `${left}${' '.repeat(gap)}${right}`
}
