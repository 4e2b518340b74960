/** The guarantee of a private training run before its first round, and the privacy spent after each round. */
import { ConfigError } from '../core/errors.js'
import { exp } from '../core/portable-exp.js'
import { badValue } from '../core/schema.js'
import { type PrivacyReport, safeDelta } from '../strategies/privacy-report.js'
import type { PrivacyConfig } from '../strategies/strategy.js'
import { epsilonAfter, noiseMultiplierFor, type RdpCurve, rdpOfStep, stepsWithin } from './accountant.js'

/** Settings of a private training run, fully resolved. */
export interface PrivacyPlan {
  unit: 'user' | 'example'
  /** Number of clients or examples, as counted by the accountant. */
  population: number
  /** Expected number of clients or examples in a round. */
  cohort: number
  /** Probability that each one is sampled in a round. */
  samplingRate: number
  /** Standard deviation of the noise on the sum divided by the clipping norm, as counted by the accountant. */
  noiseMultiplier: number
  delta: number
  rounds: number
  /** Epsilon spent by all rounds together. */
  finalEpsilon: number
  clippingNorm: number
  /** The actual sampling; in a simulation, the accountant assumes larger numbers. */
  real: {
    population: number
    cohort: number
    samplingRate: number
    /** Standard deviation of the noise on the sum, per coordinate. */
    deviation: number
  }
  /** Why the result is not private; null if it is. */
  caveat: 'simulation' | 'known_key' | 'partition' | null
  /** Rényi divergences of one round. */
  rdp: RdpCurve
}

/**
 * Fills in the settings that a config leaves open, for `population` clients or examples.
 * @throws {ConfigError} when the settings are inconsistent, naming the one to change
 */
export function planPrivacy(config: PrivacyConfig, population: number): PrivacyPlan {
  const refuse = (key: keyof PrivacyConfig, expected: string) =>
    badValue({ name: 'dp-dylora', spelling: 'snake' }, key, config[key], expected)
  const { simulation, targetEpsilon, clippingNorm } = config
  const whose = config.privacyUnit === 'user' ? 'clients' : 'examples'
  if (config.privacyUnit === 'user' && config.clients === null)
    throw refuse('clients', '{column: user}, or a partition, if clients are protected')
  if (config.cohort > population) throw refuse('cohort', `at most the ${population} ${whose} of the data`)
  const counted = simulation ?? { population, cohort: config.cohort }
  const samplingRate = counted.cohort / counted.population
  const delta = config.delta ?? safeDelta(counted.population)
  if (!(delta < 1 / counted.population))
    throw refuse('delta', `a number below 1 / ${counted.population}, one over the number of ${whose}`)
  const [rounds, noiseMultiplier] = roundsAndNoise(config, samplingRate, delta, refuse)
  const deviation = (noiseMultiplier * clippingNorm * config.cohort) / counted.cohort
  const rdp = rdpOfStep({ samplingRate, noiseMultiplier })
  const spent = epsilonAfter(rdp, rounds, delta).epsilon
  if (targetEpsilon !== null && spent > targetEpsilon)
    throw new ConfigError(`dp-dylora: ${rounds} rounds spend an epsilon of ${spent}, above ${targetEpsilon}.`)
  return {
    unit: config.privacyUnit,
    ...counted,
    samplingRate,
    noiseMultiplier,
    delta,
    rounds,
    finalEpsilon: spent,
    clippingNorm,
    real: { population, cohort: config.cohort, samplingRate: config.cohort / population, deviation },
    caveat: caveatOf(config),
    rdp,
  }
}

function caveatOf({ simulation, noiseKey, clients }: PrivacyConfig): PrivacyPlan['caveat'] {
  if (simulation !== null) return 'simulation'
  if (noiseKey !== null) return 'known_key'
  return clients !== null && clients.partition !== null ? 'partition' : null
}

function roundsAndNoise(
  { rounds, noiseMultiplier, targetEpsilon }: PrivacyConfig,
  samplingRate: number,
  delta: number,
  refuse: (key: keyof PrivacyConfig, expected: string) => ConfigError,
): [rounds: number, noiseMultiplier: number] {
  if (noiseMultiplier === null) {
    if (targetEpsilon === null)
      throw refuse('targetEpsilon', 'a number, because noise_multiplier is null too')
    if (rounds === null)
      throw refuse('rounds', 'a number of rounds, because target_epsilon determines the noise')
    return [rounds, noiseMultiplierFor({ targetEpsilon, samplingRate, steps: rounds, delta })]
  }
  if (targetEpsilon === null) {
    if (rounds === null) throw refuse('rounds', 'a number of rounds, or target_epsilon to end the training')
    return [rounds, noiseMultiplier]
  }
  const most = stepsWithin({ targetEpsilon, samplingRate, noiseMultiplier, delta })
  if (most === 0)
    throw refuse('noiseMultiplier', `more noise: one round spends more than target_epsilon ${targetEpsilon}`)
  return [Math.min(rounds ?? most, most), noiseMultiplier]
}

/** Epsilon spent after a number of rounds. */
export function epsilonOf({ rdp, delta }: PrivacyPlan, rounds: number): number {
  return epsilonAfter(rdp, rounds, delta).epsilon
}

/** The guarantee and the privacy spent after a number of rounds. */
export function reportOf(plan: PrivacyPlan, rounds: number): PrivacyReport {
  return {
    epsilon: epsilonOf(plan, rounds),
    delta: plan.delta,
    final_epsilon: plan.finalEpsilon,
    unit: plan.unit,
    population: plan.population,
    cohort: plan.cohort,
    sampling_rate: plan.samplingRate,
    sampling: 'poisson',
    noise_multiplier: plan.noiseMultiplier,
    clipping_norm: plan.clippingNorm,
    rounds,
    total_rounds: plan.rounds,
    accountant: 'rdp',
    private: plan.caveat === null,
    promise: promiseOf(plan, rounds),
  }
}

/** Before the first round, this states the guarantee of all rounds together. */
function promiseOf(plan: PrivacyPlan, rounds: number): string {
  const { unit, population, delta, caveat, real } = plan
  const epsilon = epsilonOf(plan, rounds === 0 ? plan.rounds : rounds)
  const [one, all] = unit === 'user' ? ['client, with all its rows,', 'clients'] : ['example', 'examples']
  const terms = `epsilon ${epsilon.toPrecision(3)} and delta ${delta.toPrecision(2)}`
  if (caveat === 'simulation')
    return `Not private: this simulates on ${real.population} ${all} the training on ${population} with ${terms}.`
  if (caveat === 'known_key')
    return `Not private: the noise comes from a known key; with a secret key it would be ${terms}.`
  if (caveat === 'partition')
    return `No client is protected: the partition assigned rows to simulated clients; clients of a column would have ${terms}.`
  // e^epsilon tells readers what the guarantee is worth.
  const factor = formatFactor(exp(epsilon))
  return (
    `Each ${one} ${rounds === 0 ? 'will be' : 'is'} protected with ${terms}: for anyone with the adapter, the odds that any one of the ${population} ` +
    `${all} took part change by a factor of ${factor}, if whoever ran the training and this machine are trusted, ` +
    'only the adapter is shared (no checkpoints, no metrics), and this run was not selected from several on the same ' +
    'data, each of which spends again.'
  )
}

function formatFactor(value: number): string {
  return value < 1e6
    ? `at most ${value.toLocaleString('en-US', { maximumSignificantDigits: 2 })}`
    : 'more than a million'
}
