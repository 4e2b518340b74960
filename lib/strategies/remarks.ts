/** What is allowed and seldom meant: said once, and done all the same. */
import { ConfigError } from '../errors.js'
import { snakeKey } from '../schema.js'
import type { AdapterDescription } from './describe.js'
import { rulesOf } from './index.js'
import { matchPatterns } from './patterns.js'
import type { LinearSite, StrategyConfig } from './strategy.js'

/** What one would want to be told of an adapter before it is trained, a sentence each without the full stop. */
export function remarksOn(description: AdapterDescription, sites: readonly LinearSite[]): string[] {
  const { strategy, spec } = description
  const trained = new Set(spec.parameters.filter((parameter) => parameter.trained).map(({ name }) => name))
  const shapes = new Map(sites.map((site) => [site.path, site]))
  const wasteful = spec.slots.filter(({ target, rank, a, b, a2 }) => {
    const site = shapes.get(target)
    const own = a2 === undefined && trained.has(a) && trained.has(b)
    return own && site !== undefined && rank > Math.min(site.in, site.out)
  })
  const [first] = wasteful
  const own = rulesOf(strategy).remarks?.(strategy) ?? []
  if (first === undefined) return own
  const { in: columns, out } = shapes.get(first.target) as LinearSite
  const others = wasteful.length > 1 ? ` (and ${wasteful.length - 1} more)` : ''
  return [
    `rank ${first.rank} is larger than a side of ${first.target} [${out}, ${columns}]${others}; a product of rank ${Math.min(columns, out)} can be any matrix there`,
    ...own,
  ]
}

/** @throws {ConfigError} for a pattern of ranks or alphas that matches none of the adapted linears */
export function checkPatterns(strategy: StrategyConfig, targets: readonly LinearSite[]): void {
  const options = strategy as StrategyConfig & Record<string, unknown>
  if (options.adapter) checkPatterns(options.adapter as StrategyConfig, targets)
  const paths = targets.map((site) => site.path)
  for (const key of ['rankPattern', 'alphaPattern']) {
    // AdaLoRA's pattern is another thing: it names factors, and which of their ranks are left.
    const table = Object.entries((options[key] ?? {}) as object)
    const patterns = table.filter(([, value]) => typeof value === 'number').map(([pattern]) => pattern)
    const hits = matchPatterns(patterns, paths, 'suffix')
    const unused = patterns.find((_, i) => hits[i]?.size === 0)
    if (unused === undefined) continue
    const names = [...new Set(paths.map((path) => path.slice(path.lastIndexOf('.') + 1)))]
    throw new ConfigError(
      `${snakeKey(key)}: ${JSON.stringify(unused)} matches none of the linears that are adapted. They end in: ${names.join(', ')}.`,
      { option: key, pattern: unused },
    )
  }
}
