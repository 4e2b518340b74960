/**
 * DP-DyLoRA: an adapter with a bound on what it reveals about any single client in the data. In each round a few
 * randomly sampled clients train it on their own data; their updates are clipped, summed, and released with noise. The
 * server draws one rank for all of them: noise grows with the number of coordinates, so low-rank rounds have a better
 * signal-to-noise ratio. Over plain LoRA this is DP-LoRA, over LoRA with a frozen A it is FFA-LoRA, and with examples
 * as clients it is DP-SGD.
 */

import * as z from 'zod'
import { checkedOptions } from '../core/arguments.js'
import { deepFreeze, integer, numberWithin, positive, text, word } from '../core/schema.js'
import { named } from '../core/type-names.js'
import type { DpDyloraConfig, DpDyloraOptions } from './configs.js'
import { dyloraRules } from './dylora.js'
import { loraRules } from './lora.js'
import { loraFaRules } from './lora-fa.js'
import { adapterOf, plainRules, schemasOf, wrapping } from './plain.js'
import type { StrategyRules } from './strategy.js'

const adapterSchema = adapterOf(schemasOf([dyloraRules, loraRules, loraFaRules])).describe(
  'The adapter: `dylora`, `lora` (DP-LoRA), or `lora-fa` (FFA-LoRA), with its own options.',
)

/** Accepted values of `clients`. */
const CLIENTS =
  '{column: user}, {partition: iid, count: 100} or {partition: dirichlet, count: 100, alpha: 0.5, column: label}'

const clientsSchema = named(
  z
    .strictObject(
      {
        column: text('the name of a column')
          .nullable()
          .default(null)
          .describe(
            'Column that identifies the client of a row; for a `dirichlet` partition, the column with the label.',
          ),
        partition: word(['iid', 'dirichlet'])
          .nullable()
          .default(null)
          .describe(
            'Assign rows to simulated clients instead: `iid` at random; `dirichlet` by shares drawn for each label.',
          ),
        count: integer(1).nullable().default(null).describe('With a partition: number of clients.'),
        alpha: positive()
          .nullable()
          .default(null)
          .describe(
            'With `dirichlet`: concentration. Large values make clients similar, small ones different.',
          ),
      },
      { error: CLIENTS },
    )
    .superRefine(({ column, partition, count, alpha }, context) => {
      const needs = {
        column: partition !== 'iid',
        count: partition !== null,
        alpha: partition === 'dirichlet',
      }
      for (const [key, value] of Object.entries({ column, count, alpha }))
        if ((value !== null) !== needs[key as keyof typeof needs])
          context.addIssue({ code: 'custom', path: [key], message: CLIENTS })
    }),
  {
    type: 'ClientsConfig',
    about:
      'Clients of a private training run: identified by a column, or simulated by partitioning the rows.',
  },
)
  .nullable()
  .default(null)
  .describe('The clients, if `privacy_unit` is `client`.')

const schema = z
  .strictObject({
    name: z.literal('dp-dylora'),
    adapter: adapterSchema.prefault({ name: 'dylora' }),
    privacyUnit: word(['user', 'example'])
      .default('user')
      .describe('The protected unit: a client with all its rows, or one example (DP-SGD).'),
    clients: clientsSchema,
    targetEpsilon: positive()
      .nullable()
      .default(null)
      .describe(
        'Limit of the privacy loss. Without `noise_multiplier`, the noise is chosen to reach it in `rounds`.',
      ),
    noiseMultiplier: positive()
      .nullable()
      .default(null)
      .describe('Standard deviation of the noise on the sum, as a multiple of `clipping_norm`.'),
    delta: numberWithin(Number.MIN_VALUE, 1 - Number.EPSILON, 'a number in (0, 1)')
      .nullable()
      .default(null)
      .describe('Probability with which the guarantee may fail; below 1 / clients. `null`: a tenth of that.'),
    rounds: integer(1)
      .nullable()
      .default(null)
      .describe(
        'Number of updates. `null`, with both `target_epsilon` and `noise_multiplier`: as many as they allow.',
      ),
    cohort: integer(1)
      .default(16)
      .describe(
        'Expected number of clients (or examples) per round; each is sampled independently, so the number varies.',
      ),
    clippingNorm: positive()
      .default(1)
      .describe('L2 norm, over all trained parameters, to which contributions are clipped.'),
    localEpochs: integer(1).default(1).describe('With clients: passes over their data per round.'),
    localSteps: integer(1)
      .nullable()
      .default(null)
      .describe('With clients: maximum optimizer steps per round.'),
    serverOptimizer: word(['sgd', 'adam'])
      .default('sgd')
      .describe(
        'With clients: optimizer that applies the mean of their changes. `sgd` at rate 1 adds it; `adam` has betas 0.9 and 0.99, eps 1e-3.',
      ),
    serverLearningRate: positive()
      .default(1)
      .describe('With clients: learning rate of the server optimizer.'),
    simulation: z
      .strictObject(
        {
          population: integer(1).describe('Number of simulated clients.'),
          cohort: integer(1).describe('Simulated clients per round.'),
        },
        { error: '{population: 1000000, cohort: 5000}' },
      )
      .nullable()
      .default(null)
      .describe(
        'Train on small cohorts with the noise of large cohorts from a large population. Estimates the accuracy of such training; the result is not private.',
      ),
    noiseKey: text('64 hexadecimal digits')
      .regex(/^[0-9a-f]{64}$/, { error: '64 hexadecimal digits' })
      .nullable()
      .default(null)
      .describe('A known key, for tests. The result is not private.'),
  })
  .superRefine((config, context) => {
    const given = config as unknown as DpDyloraConfig
    const refuse = (key: keyof DpDyloraConfig, message: string) =>
      context.addIssue({ code: 'custom', path: [key], message })
    const byExample = given.privacyUnit === 'example'
    if (byExample && given.clients !== null) refuse('clients', 'null if privacy_unit is example')
    if (byExample && given.localSteps !== null) refuse('localSteps', 'null if privacy_unit is example')
    if (byExample && given.serverOptimizer !== 'sgd')
      refuse(
        'serverOptimizer',
        'sgd if privacy_unit is example, because the optimizer of the run makes the updates',
      )
    if (!byExample && 'projectGradient' in given.adapter && given.adapter.projectGradient)
      refuse(
        'adapter',
        'lora-fa with project_gradient: false, because the changes of clients are not gradients',
      )
    if (given.simulation !== null && given.simulation.cohort > given.simulation.population)
      refuse('simulation', 'a cohort of at most the population')
  }) as unknown as z.ZodObject & z.ZodType<DpDyloraConfig>

/**
 * Differentially private training of a low-rank adapter.
 * @throws {ConfigError} for an unknown option or a value out of range
 * @example dpDylora({ clients: { column: 'user' }, targetEpsilon: 4, rounds: 200, cohort: 50 })
 * @see Xu et al. 2024, arXiv 2405.06368; for fixed ranks and frozen A, arXiv 2403.12313; for examples, arXiv 1607.00133
 */
export function dpDylora(options: DpDyloraOptions = {}): DpDyloraConfig {
  return deepFreeze(checkedOptions(schema, options, 'dpDylora()', { name: 'dp-dylora' }))
}

const inner = wrapping<DpDyloraConfig>(plainRules)

export const dpDyloraRules: StrategyRules<DpDyloraConfig> = {
  ...inner,
  // A round over clients moves the adapter by the mean of clipped updates, which needs a higher rate than ordinary
  // steps. With examples as the privacy unit, the run's own optimizer takes the steps.
  learningRate: (config) => (config.privacyUnit === 'user' ? 10 : 1) * inner.learningRate(config),
  name: 'dp-dylora',
  label: 'DP-DyLoRA',
  mark: { hue: 6, shape: 'open' },
  compared: {
    // Per example, since data need not identify clients.
    around: (inner) => ({
      name: 'dp-dylora',
      adapter: inner('dylora'),
      privacyUnit: 'example',
      targetEpsilon: 8,
      rounds: 1,
    }),
  },
  paper: 'arXiv 2405.06368',
  peftType: 'LORA',
  bases: loraRules.bases,
  trainable: 'parameters of the wrapped adapter, from clipped contributions and noise',
  schema,
  privacy: ({ name, adapter, ...privacy }) => privacy,
}
