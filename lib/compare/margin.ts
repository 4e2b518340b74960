/** The differences that do not matter, by metric. */
import { ConfigError } from '../core/errors.js'
import type { CompareResults } from './results.js'

/** One number for every metric, or numbers by name of the metric; 0 is none. */
export type Margin = number | Readonly<Record<string, number>>

/**
 * Margins by name of the metric.
 * @param earlier are kept for metrics that `margin` does not name
 * @throws {ConfigError} for a metric that the compare does not have
 */
export function marginsOf(
  margin: Margin | null,
  metrics: readonly { name: string }[],
  earlier: Readonly<Record<string, number>> = {},
): Record<string, number> {
  if (margin === null) return { ...earlier }
  const known = metrics.map(({ name }) => name)
  const asked =
    typeof margin === 'number' ? known.map((name) => [name, margin] as const) : Object.entries(margin)
  for (const [name] of asked)
    if (!known.includes(name))
      throw new ConfigError(
        `compare: margin names ${JSON.stringify(name)}, which is no metric of this compare; expected ${known.join(', ')}.`,
        { option: 'margin', value: name, expected: known.join(', ') },
      )
  const all = { ...earlier, ...Object.fromEntries(asked) }
  return Object.fromEntries(Object.entries(all).filter(([, value]) => value > 0))
}

/** The results with other margins, and without the key if there are none. */
export function withMargins(
  { margins: _, ...results }: CompareResults,
  margins: Record<string, number>,
): CompareResults {
  return Object.keys(margins).length === 0 ? results : { ...results, margins }
}
