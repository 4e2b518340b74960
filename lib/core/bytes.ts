import { badArgument } from './arguments.js'

/**
 * Formats a number of bytes: `1.4 GiB`.
 * @throws {ConfigError} unless given a nonnegative number
 */
export function formatBytes(bytes: number): string {
  if (!(typeof bytes === 'number' && bytes >= 0))
    throw badArgument(bytes, 'formatBytes()', 'bytes', 'a number from 0')
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB']
  let value = bytes
  let unit = 0
  while (value >= 1024 && unit < units.length - 1) {
    value /= 1024
    unit++
  }
  return unit === 0 ? `${bytes} B` : `${value.toFixed(value < 10 ? 2 : 1)} ${units[unit]}`
}
