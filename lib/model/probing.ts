/** The look at the data that some strategies take before they are attached. */
import type { BaseModel } from '../base/base.js'
import { checkedOptions } from '../core/arguments.js'
import { checkInBackward } from '../options/in-backward.js'
import { withOwnRate } from '../options/rates.js'
import { readStrategy, rulesOf } from '../strategies/index.js'
import type { StrategyConfig } from '../strategies/strategy.js'
import { runProbe } from '../train/run/probe.js'
import { checkTaskData, type DatasetArgument, datasetOf } from '../train/sources/data-sources.js'
import { createAdapter } from './attach.js'
import { type ProbeOptions, probeSchema } from './options.js'

/** The strategy to attach, after a look at the data if it asks for one. */
export async function probedStrategy(
  base: BaseModel,
  strategy: StrategyConfig,
  data: DatasetArgument,
  options: ProbeOptions,
): Promise<StrategyConfig> {
  base.lifetime.check()
  const source = { name: 'probe()', spelling: 'camel' } as const
  const config = readStrategy(strategy, { ...source, at: 'strategy' })
  const asked = checkedOptions(probeSchema, options, 'probe()')
  const { evalDataset, evalFraction, signal, onDataProgress, onStep, ...own } = asked
  const parsed = withOwnRate(own, config)
  checkInBackward(parsed, config, source)
  const sources = {
    dataset: datasetOf(data, 'probe()'),
    evalDataset: evalDataset == null ? null : datasetOf(evalDataset, 'probe()', 'evalDataset'),
    evalFraction,
  }
  checkTaskData({ ...sources, task: parsed.task, strategy: config }, source)
  const probe = rulesOf(config).probe?.(config)
  if (probe === undefined) return config
  return runProbe(
    base,
    probe,
    sources,
    { ...parsed, optimizer: parsed.optimizer ?? 'adamw' },
    (description) => createAdapter(description, undefined, base.device),
    { signal, onProgress: onDataProgress, ...(onStep ? { onStep } : {}) },
  )
}
