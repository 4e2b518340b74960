/** Warnings about valid but rarely intended settings; each is printed once and the run continues. */

import { rulesOf } from './index.js'
import type { AdapterDescription, LinearSite } from './strategy.js'
import { rankedTerms } from './terms.js'

/** Warnings about an adapter before training, one sentence each, without the period. */
export function remarksOn(description: AdapterDescription, sites: readonly LinearSite[]): string[] {
  const { strategy, spec } = description
  const trained = new Set(spec.parameters.filter((parameter) => parameter.trained).map(({ name }) => name))
  const shapes = new Map(sites.map((site) => [site.path, site]))
  const wasteful = rankedTerms(spec).filter(({ target, parameters: { a, b }, numbers: { rank } }) => {
    const site = shapes.get(target)
    const own = trained.has(a) && trained.has(b)
    return own && site !== undefined && rank > Math.min(site.in, site.out)
  })
  const [first] = wasteful
  const own = rulesOf(strategy).remarks?.(strategy) ?? []
  if (first === undefined) return own
  const { in: columns, out } = shapes.get(first.target) as LinearSite
  const others = wasteful.length > 1 ? ` (and ${wasteful.length - 1} more)` : ''
  return [
    `rank ${first.numbers.rank} exceeds a dimension of ${first.target} [${out}, ${columns}]${others}; rank ${Math.min(columns, out)} can represent any matrix there`,
    ...own,
  ]
}
