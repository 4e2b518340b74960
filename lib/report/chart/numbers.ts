/**
 * Number formatting for charts and pages, independent of the locale: `1.23`, `12,300`, `28.4 MiB`, `3 min 5 s`, `42%`.
 */

const MINUS = '\u2212'
const NONE = '–'

export function isNumber(value: number | null | undefined): value is number {
  return value !== null && value !== undefined && Number.isFinite(value)
}

/** At least three significant digits; whole numbers get thousands separators. */
export function formatNumber(value: number | null | undefined, digits = 3): string {
  if (!isNumber(value)) return NONE
  const size = Math.abs(value)
  if (size === 0) return '0'
  if (Number.isInteger(value) || size >= 1e4)
    return Math.round(value).toLocaleString('en-US').replace('-', MINUS)
  if (size < 1e-3) return exponent(value, 1)
  const decimals = Math.max(0, digits - 1 - Math.floor(Math.log10(size)))
  return value.toFixed(Math.min(decimals, 6)).replace('-', MINUS)
}

/** For ticks: as few characters as possible. */
export function formatTick(value: number): string {
  const size = Math.abs(value)
  if (size >= 1e9) return `${trimmed(value / 1e9)}B`
  if (size >= 1e6) return `${trimmed(value / 1e6)}M`
  if (size >= 1e4) return `${trimmed(value / 1e3)}k`
  if (size !== 0 && size < 1e-4) return exponent(value, 0)
  return String(Number(value.toPrecision(4))).replace('-', MINUS)
}

export function formatSize(bytes: number | null | undefined): string {
  if (!isNumber(bytes)) return NONE
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB']
  let [value, unit] = [bytes, 0]
  while (value >= 1000 && unit < units.length - 1) {
    value /= 1024
    unit++
  }
  if (unit === 0) return `${value} B`
  return `${value.toFixed(value >= 100 ? 0 : value >= 10 ? 1 : 2)} ${units[unit]}`
}

export function formatSeconds(seconds: number | null | undefined): string {
  if (!isNumber(seconds)) return NONE
  if (seconds < 10) return `${seconds.toFixed(1)} s`
  const whole = Math.round(seconds)
  if (whole < 100) return `${whole} s`
  const minutes = Math.floor(whole / 60)
  return minutes < 60 ? `${minutes} min ${whole % 60} s` : `${Math.floor(minutes / 60)} h ${minutes % 60} min`
}

/** A fraction as a percentage. Values near 0% and 100% get a decimal, so that 99.6% is not shown as 100%. */
export function formatShare(share: number | null | undefined): string {
  if (!isNumber(share)) return NONE
  if (share === 0 || share === 1) return `${share * 100}%`
  return `${(share * 100).toFixed(share < 0.1 || share > 0.99 ? 1 : 0)}%`
}

/** Rounds a coordinate to a tenth of a pixel, which is finer than visible. */
export function pixels(value: number): number {
  const rounded = Math.round(value * 10) / 10
  return rounded === 0 ? 0 : rounded
}

function trimmed(value: number): string {
  return String(Number(value.toFixed(2))).replace('-', MINUS)
}

function exponent(value: number, decimals: number): string {
  return value.toExponential(decimals).replaceAll('-', MINUS)
}
