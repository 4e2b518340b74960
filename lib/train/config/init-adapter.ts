/** What a config may not have beside `init_adapter`. */
import { badValue, type OptionSource } from '../../core/schema.js'
import { rulesOf } from '../../strategies/index.js'
import type { StrategyConfig } from '../../strategies/strategy.js'

interface Started {
  initAdapter: string | null
  strategy: StrategyConfig
  learningRate: number | 'auto' | null
  /** Absolute, as `initAdapter` where it is a path. */
  outputDir: string
}

/** @throws {ConfigError} when the run cannot start from the adapter */
export function checkInitAdapter(
  { initAdapter, strategy, learningRate, outputDir }: Started,
  source: OptionSource,
): void {
  if (initAdapter === null) return
  const bad = (expected: string) => badValue(source, 'initAdapter', initAdapter, expected)
  const rules = rulesOf(strategy)
  if (rules.saves === 'model')
    throw bad(
      `it to be absent with strategy ${strategy.name}, which has no adapter; set model to the trained model`,
    )
  if (rules.probe?.(strategy) !== undefined)
    throw bad(
      `it to be absent with strategy ${strategy.name}, which chooses linears by a probe; set strategy to what lowrank.json of the adapter says`,
    )
  if (initAdapter === outputDir) throw bad('an adapter outside of output_dir, which the run replaces')
  if (learningRate === 'auto')
    throw badValue(source, 'learningRate', learningRate, 'a number, since a search trains new adapters')
}
