/**
 * A probe trains an adapter on a sample of a run's data, and measures what it adds to each linear layer. The
 * strategy uses this to set up the run's own adapter, which starts again from the base.
 */
import { type AdapterState, type BaseModel, withSession } from '../../base/base.js'
import { ConfigError } from '../../core/errors.js'
import type { RunOptions } from '../../options/options.js'
import { EVAL_PLAN, evaluationPlans, trainingPlans } from '../../planning/plans.js'
import { describeAdapter, initialize } from '../../strategies/describe.js'
import type { LinearSite, Probe, StrategyConfig } from '../../strategies/strategy.js'
import { presentRanks } from '../processes/processes.js'
import { type DataControl, prepareSample } from '../rows/data.js'
import type { DataSources } from '../sources/data-sources.js'
import { evaluateBatches } from '../steps/evaluate.js'
import type { TrainStep } from '../steps/events.js'
import { TrainingRun } from './run.js'

/** Callbacks and signal of a probe. */
export interface ProbeControl extends DataControl {
  onStep?: (step: TrainStep) => void
}

/**
 * Resolves a strategy by running its probe.
 * @param create creates the native arrays of an adapter
 * @param prepare reads the sample
 * @throws {ConfigError} for streamed data, or when the strategy rejects the measurements
 */
export async function runProbe(
  base: BaseModel,
  probe: Probe,
  sources: DataSources,
  options: RunOptions,
  create: (description: AdapterState['description']) => AdapterState,
  { onStep, ...control }: ProbeControl = {},
  prepare: typeof prepareSample = prepareSample,
): Promise<StrategyConfig> {
  if (sources.dataset.streaming)
    throw new ConfigError(
      'probe(): dataset.streaming is true, but a probe needs a sample of the whole dataset; turn streaming off, or set the linears to keep (keep).',
    )
  const { signal } = control
  const ranks = presentRanks()
  const description = describeAdapter(probe.adapter, base.sites, { weights: base.weights })
  // Chat templates may write the time into rows, which must be the same on all ranks.
  const now = await ranks.firsts('time of a probe', async () => control.now ?? Date.now())
  const data = await prepare(base, sources, options, probe.sampleFraction, { ...control, now })
  const state = create(description)
  try {
    await initialize(state.native, description, base, options.seed)
    const run = new TrainingRun({
      base,
      adapter: state,
      options: {
        ...options,
        numTrainEpochs: 1,
        maxSteps: probe.steps,
        // A probe has few steps, and most schedules start or end at a rate of zero.
        lrSchedulerType: 'constant',
        warmupSteps: null,
        warmupRatio: 0,
        evalSteps: null,
        loadBestModelAtEnd: false,
        earlyStoppingPatience: null,
        saveSteps: null,
      },
      plans: trainingPlans(description.spec, options, base, false),
      data: async () => data,
      evalFraction: 0,
      folders: null,
      beginning: { resume: false, force: false },
      signal,
      ranks,
      onEvalProgress: undefined,
      use: (work) => base.lifetime.use(work),
      begin: () => () => undefined,
    })
    for await (const step of run) onStep?.(step)
    const plans = evaluationPlans(options, base)
    const measured = { [EVAL_PLAN]: { ...plans[EVAL_PLAN], outputNorms: true } } as typeof plans
    const norms = await withSession(base, [{ state, weight: 1, rank: null }], measured, async (session) => {
      await evaluateBatches(session, EVAL_PLAN, data.sample, { signal })
      return session.outputNorms().promise
    })
    const sites = new Map(base.sites.map((site) => [site.path, site]))
    return probe.choose(
      description.spec.terms.map(({ target }, i) => ({
        site: sites.get(target) as LinearSite,
        value: norms[i] as number,
      })),
    )
  } finally {
    await state.native.dispose()
  }
}
