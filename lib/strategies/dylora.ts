/**
 * DyLoRA: one adapter that works at every rank. Each step draws a rank b and uses only the first b rows of A and
 * columns of B, so the first ranks learn to work without the others; afterwards the adapter can be used and saved at
 * any rank.
 */

import * as z from 'zod'
import { checkedOptions } from '../core/arguments.js'
import { counterUniform } from '../core/counter-random.js'
import { deepFreeze, flag, word } from '../core/schema.js'
import type { DyloraConfig, DyloraOptions, LoraConfig } from './configs.js'
import { drawnStart, loraRules, overLora } from './lora.js'
import { freezeA, withFrozenA } from './lora-fa.js'
import type {
  AdapterDescription,
  Conversion,
  Factor,
  ReadFactor,
  RunFacts,
  StepRules,
  StrategyRules,
} from './strategy.js'
import { rankedTerms } from './terms.js'

const weights = z.array(z.number({ error: 'numbers from 0' }).min(0, { error: 'numbers from 0' }))

const schema = z
  .strictObject({
    ...loraRules.schema.shape,
    name: z.literal('dylora'),
    initLoraWeights: drawnStart(),
    freezeA: freezeA(),
    trainedRanks: word(['last', 'active'])
      .default('active')
      .describe(
        "Ranks trained by a step that uses the first b ranks: `active`, all b; `last`, only rank b, as in the authors' script.",
      ),
    rankDistribution: z
      .union([z.literal('uniform'), weights], { error: 'uniform, or a list with a weight for every rank' })
      .default('uniform')
      .describe('Distribution of b: `uniform` from 1 to `r`, or a list of `r` weights.'),
    maskedUpdate: flag()
      .default(true)
      .describe(
        "Keep the ranks that a step does not train unchanged. `false`: weight decay and momentum change them, as in the authors' code.",
      ),
  })
  .superRefine((config, context) => {
    const { r, rankPattern, rankDistribution: given } = config as unknown as DyloraConfig
    for (const [pattern, rank] of Object.entries(rankPattern))
      if (rank > r)
        context.addIssue({
          code: 'custom',
          path: ['rankPattern', pattern],
          message: `a rank up to r, ${r}, which is as far as ranks are drawn`,
        })
    if (given === 'uniform') return
    const message =
      given.length !== r
        ? `uniform, or one weight for each of the ${r} ranks`
        : given.every((weight) => weight === 0)
          ? 'at least one weight above 0'
          : undefined
    if (message !== undefined) context.addIssue({ code: 'custom', path: ['rankDistribution'], message })
  }) as unknown as z.ZodObject & z.ZodType<DyloraConfig>

/**
 * LoRA that works at every rank up to `r`: set `adapter.rank`, or save with `{ rank }`.
 * @throws {ConfigError} for an unknown option or a value out of range
 * @example dylora({ r: 16, loraAlpha: 16 })
 * @see Valipour et al. 2022, arXiv 2210.07558
 */
export function dylora(options: DyloraOptions = {}): DyloraConfig {
  return deepFreeze(checkedOptions(schema, options, 'dylora()', { name: 'dylora' }))
}

function asLora({
  trainedRanks,
  rankDistribution,
  maskedUpdate,
  freezeA,
  ...config
}: DyloraConfig): LoraConfig {
  return { ...config, name: 'lora' }
}

export const dyloraRules: StrategyRules<DyloraConfig> = {
  ...overLora(asLora),
  name: 'dylora',
  label: 'DyLoRA',
  mark: { hue: 3, shape: 'open' },
  compared: {
    controls: (config) => [
      {
        name: 'dylora+fixed-rank',
        about: 'DyLoRA at its largest rank in every step: what the drawn ranks cost.',
        options: {
          ...config,
          rankDistribution: Array.from({ length: config.r }, (_, i) => (i === config.r - 1 ? 1 : 0)),
        },
      },
    ],
  },
  paper: 'arXiv 2210.07558',
  trainable: 'A and B of every adapted linear, at a rank drawn for each step',
  schema,
  learningRate: () => 1e-3,
  // The scale is alpha / b, or alpha / sqrt(b), at every rank b, as PEFT computes it for a file of that rank.
  linears: (config, sites) =>
    loraRules.linears(asLora(config), sites).map((answer) => {
      const numbers = { ...answer.term.numbers, rankPower: config.useRslora ? 0.5 : 1 }
      const own = { ...answer, term: { ...answer.term, numbers } }
      // No projection: it would give gradients to ranks that the step must not train.
      return config.freezeA ? withFrozenA(own, false) : own
    }),
  // With A frozen, an embedding would never train, since its A starts at zero.
  embeddings: ({ freezeA }) => !freezeA,
  ranked: (config) => ({
    most: config.r,
    counted: config.maskedUpdate,
    at: (rank, description, read) => cut(config, rank, description, read),
  }),
  steps: (config) => ({ begin: (run) => drawnRanks(config, run), byLength: false }),
}

/** The LoRA of the first `rank` ranks: rows of A, columns of B, and all other trained parameters unchanged. */
function cut(
  config: DyloraConfig,
  rank: number,
  { factors, spec }: AdapterDescription,
  read: ReadFactor,
): Conversion {
  const whole = new Map(factors.map((factor) => [factor.name, factor]))
  const ranked = new Set(rankedTerms(spec).flatMap(({ parameters: { a, b } }) => [a, b]))
  const rankPattern = Object.fromEntries(
    Object.entries(config.rankPattern).map(([pattern, own]) => [pattern, Math.min(own, rank)]),
  )
  return {
    strategy: deepFreeze({ ...asLora(config), r: rank, rankPattern }),
    read: (name) => {
      const { rows, cols, role } = whole.get(name) as Factor
      const values = read(name)
      if (!ranked.has(name)) return values
      if (role === 'a') return values.slice(0, Math.min(rows, rank) * cols)
      const kept = Math.min(cols, rank)
      const columns = new Float32Array(rows * kept)
      for (let i = 0; i < rows; i++) columns.set(values.subarray(i * cols, i * cols + kept), i * kept)
      return columns
    },
  }
}

/**
 * Draws ranks with a counter-based generator from the run's seed, so a resumed run repeats the same draws and can
 * recount the updates of each rank.
 */
function drawnRanks(config: DyloraConfig, { seed }: RunFacts): StepRules {
  const { r, rankDistribution, trainedRanks, maskedUpdate } = config
  const weights = rankDistribution === 'uniform' ? new Array<number>(r).fill(1) : rankDistribution
  const total = weights.reduce((sum, weight) => sum + weight, 0)
  const draw = (step: number) => {
    let left = counterUniform(seed, 'dylora', step) * total
    for (const [index, weight] of weights.entries()) {
      left -= weight
      if (left < 0) return index + 1
    }
    // Rounding may leave a remainder, which goes to the last rank that can be drawn.
    return weights.findLastIndex((weight) => weight > 0) + 1
  }
  const draws = new Array<number>(r).fill(0)
  let counted = 0
  return {
    ranks: (step) => {
      for (; counted < step; counted++) {
        const index = draw(counted + 1) - 1
        draws[index] = (draws[index] as number) + 1
      }
      const lastOnly = trainedRanks === 'last'
      return { active: draw(step), lastOnly, ...(maskedUpdate ? { draws: [...draws] } : {}) }
    },
  }
}
