/** New adapters that begin with the values of another: both must have the same linears, ranks, and scales. */
import type { BaseModel } from '../base/base.js'
import { ConfigError } from '../core/errors.js'
import type { AdapterFolder } from '../peft/adapter-folder.js'
import { describeAdapter } from '../strategies/describe.js'
import { strategyToFile } from '../strategies/index.js'
import type { AdapterDescription, StrategyConfig } from '../strategies/strategy.js'
import { openAdapter } from './attach.js'

/** Numbers of terms that act in training alone, and may change. */
const OF_TRAINING = new Set(['dropout', 'rowDropout', 'rowDropoutScale', 'moduleDropout', 'rankPower'])

/**
 * The adapter at a path, described as a strategy trains it.
 * @throws {ConfigError} when the strategy describes an adapter of another form, or ranks hold parts of the model
 */
export async function openStart(
  path: string,
  strategy: StrategyConfig,
  base: BaseModel,
): Promise<AdapterFolder> {
  if (base.part !== null)
    throw new ConfigError(
      `the adapter ${path} cannot be a start where each rank has a part of the layers; use split: rows.`,
    )
  const folder = await openAdapter(path, base)
  const { sites, weights } = base
  const description = describeAdapter(strategy, sites, { weights })
  const why = differenceOf(folder.description, description)
  if (why === undefined) return { ...folder, description }
  const own = JSON.stringify(strategyToFile(folder.description.strategy))
  throw new ConfigError(
    `the adapter ${path} cannot be the start of strategy ${strategy.name}: ${why}. Set strategy to that of the adapter: ${own}`,
    { path, strategy: strategy.name },
  )
}

/** How two adapters differ in what they compute, as a clause; undefined if they do not. */
function differenceOf(there: AdapterDescription, here: AdapterDescription): string | undefined {
  const wanted = new Map(here.spec.terms.map((term) => [term.target, term]))
  for (const { target, kind, parameters, numbers } of there.spec.terms) {
    const term = wanted.get(target)
    if (term === undefined) return `it adapts ${target}, which the strategy leaves out (target_modules)`
    wanted.delete(target)
    if (kind !== term.kind || !sameKeys(parameters, term.parameters))
      return `it was made by ${there.strategy.name}, whose factors are others`
    const mine = term.numbers as Readonly<Record<string, number | undefined>>
    for (const [name, value] of Object.entries(numbers))
      if (!OF_TRAINING.has(name) && value !== mine[name])
        return `its ${name} at ${target} is ${value}, and that of the strategy ${mine[name]}`
  }
  for (const target of wanted.keys())
    return `the strategy adapts ${target}, which it leaves out (target_modules)`
  return sizes(there) === sizes(here)
    ? undefined
    : 'the sizes of its factors, or the modules that it trains in full, are others'
}

const sameKeys = (one: object, other: object): boolean =>
  Object.keys(one).sort().join() === Object.keys(other).sort().join()

/** Names and shapes of factors, and the weights that they replace. */
function sizes({ spec: { parameters, copies } }: AdapterDescription): string {
  const shapes = parameters.map(({ name, rows, cols }) => [name, rows, cols].join(' '))
  return JSON.stringify([shapes.sort(), copies])
}
