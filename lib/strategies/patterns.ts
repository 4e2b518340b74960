/**
 * Module patterns in PEFT's format: Python regular expressions on module paths. They may come from untrusted adapters,
 * so they run in a separate context with a time limit.
 */
import { ConfigError } from '../core/errors.js'
import { quote } from '../core/quote.js'
import { limitTime } from '../core/time-limit.js'

const TIME_LIMIT_MS = 500

/**
 * Matches every pattern against every path.
 * @param anchor `full` must match the whole path (target_modules as a string); `suffix` matches the whole path or a
 * suffix after a dot (keys of rank_pattern and alpha_pattern)
 * @returns for each pattern the set of paths that match
 * @throws {ConfigError} for a pattern that does not compile or takes too long
 */
export function matchPatterns(
  patterns: readonly string[],
  paths: readonly string[],
  anchor: 'full' | 'suffix',
): Set<string>[] {
  if (patterns.length === 0) return []
  const sources = patterns.map((pattern) => {
    const source = anchor === 'full' ? `^(?:${pattern})$` : `^(?:.*\\.)?(?:${pattern})$`
    try {
      new RegExp(source)
    } catch (cause) {
      const why = (cause as Error).message
      throw new ConfigError(
        `pattern ${quote(pattern)} is not a valid regular expression in JavaScript: ${quote(why)}. Write it without Python-only syntax.`,
        { pattern },
        { cause },
      )
    }
    return source
  })
  const match = () =>
    sources.map((source) => {
      const expression = new RegExp(source)
      return paths.map((path) => expression.test(path))
    })
  const hits = limitTime(TIME_LIMIT_MS, match, () => {
    return new ConfigError(
      `the patterns ${quote(patterns)} took longer than ${TIME_LIMIT_MS} ms to match ${paths.length} module paths; use a simpler one.`,
      { patterns },
    )
  })
  return hits.map((row) => new Set(paths.filter((_, i) => row[i])))
}

/** True if a path equals the name or ends in it after a dot, PEFT's rule for lists of modules. */
export function endsInModule(path: string, name: string): boolean {
  return path === name || path.endsWith(`.${name}`)
}

/**
 * PEFT's rank_pattern and alpha_pattern: rank and alpha for a module's path, from the first matching pattern or else
 * the defaults.
 */
export function rankLookup(
  options: {
    r: number
    alpha: number
    rankPattern: Readonly<Record<string, number>>
    alphaPattern: Readonly<Record<string, number>>
  },
  sites: readonly { path: string }[],
): (path: string) => { rank: number; alpha: number } {
  const paths = sites.map((site) => site.path)
  const tableOf = (pattern: Readonly<Record<string, number>>) => {
    const hits = matchPatterns(Object.keys(pattern), paths, 'suffix')
    return Object.values(pattern).map((value, i) => ({ value, matches: hits[i] as Set<string> }))
  }
  const ranks = tableOf(options.rankPattern)
  const alphas = tableOf(options.alphaPattern)
  return (path) => ({
    rank: ranks.find((entry) => entry.matches.has(path))?.value ?? options.r,
    alpha: alphas.find((entry) => entry.matches.has(path))?.value ?? options.alpha,
  })
}
