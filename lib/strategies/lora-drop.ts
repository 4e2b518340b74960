/**
 * LoRA-drop: layers whose LoRA contributes most keep their own pair of factors, and all others of the same kind share
 * one. A probe selects them: a plain LoRA trained briefly on a sample of the data.
 */

import * as z from 'zod'
import { checkedOptions } from '../core/arguments.js'
import { ConfigError } from '../core/errors.js'
import { deepFreeze, integer, numberWithin, text, word } from '../core/schema.js'
import type { LoraConfig, LoraDropConfig, LoraDropOptions } from './configs.js'
import { drawnStart, lora, loraRules, overLora } from './lora.js'
import { freezeShape, loraFa, withFrozenA } from './lora-fa.js'
import type { LinearAdapter, LinearSite, OutputNorm, Probe, StrategyRules } from './strategy.js'
import { lastName } from './targets.js'
import { type RankedTerm, withRoles } from './terms.js'

const schema = z.strictObject({
  ...loraRules.schema.shape,
  name: z.literal('lora-drop'),
  initLoraWeights: drawnStart(),
  ...freezeShape,
  threshold: numberWithin(0, 1, 'a number from 0 to 1')
    .default(0.9)
    .describe("Share of a group's importance covered by the linears that keep their own pair. 1 keeps all."),
  sampleFraction: numberWithin(0, 1, 'a number above 0, at most 1')
    .gt(0, { error: 'a number above 0, at most 1' })
    .default(0.1)
    .describe('Share of the training data used by the probe.'),
  probeSteps: integer(1)
    .nullable()
    .default(null)
    .describe('Optimizer steps of the probe. Default: one pass over its sample.'),
  scope: word(['type', 'layer'])
    .default('type')
    .describe('Unit of comparison: linears of the same name, or whole layers.'),
  keep: z
    .array(text(), { error: 'a list of paths of linears' })
    .nullable()
    .default(null)
    .describe('Linears that keep their own pair, as found by a probe. Default: run a probe first.'),
  importances: z
    .record(z.string(), numberWithin(0, 1, 'a number from 0 to 1'), {
      error: 'numbers by the path of a linear',
    })
    .nullable()
    .default(null)
    .describe(
      "Share of its group's importance that the probe found for each linear. Only a record. Default: none.",
    ),
}) as unknown as z.ZodObject & z.ZodType<LoraDropConfig>

/**
 * LoRA in which layers of the same kind share one pair of factors if their own would contribute little. `Model.probe`
 * determines which; `lowrank train` runs it automatically.
 * @throws {ConfigError} for an unknown option or a value out of range
 * @example const adapter = await model.attach(await model.probe(loraDrop({ r: 16 }), 'train.jsonl'))
 * @see Zhou et al. 2024, arXiv 2402.07721
 */
export function loraDrop(options: LoraDropOptions = {}): LoraDropConfig {
  return deepFreeze(checkedOptions(schema, options, 'loraDrop()', { name: 'lora-drop' }))
}

function asLora({
  threshold,
  sampleFraction,
  probeSteps,
  scope,
  keep,
  importances,
  freezeA,
  projectGradient,
  ...config
}: LoraDropConfig): LoraConfig {
  return { ...config, name: 'lora' }
}

export const loraDropRules: StrategyRules<LoraDropConfig> = {
  ...overLora(asLora),
  name: 'lora-drop',
  label: 'LoRA-drop',
  mark: { hue: 4, shape: 'open' },
  paper: 'arXiv 2402.07721',
  trainable: 'A and B of the most important linears, and one shared pair for the others of each kind',
  schema,
  learningRate: () => 1e-3,
  // With A frozen, an embedding would never train, since its A starts at zero.
  embeddings: ({ freezeA }) => !freezeA,
  linears: (config, sites) => {
    const own = loraRules
      .linears(asLora(config), sites)
      .map((answer) => (config.freezeA ? withFrozenA(answer, config.projectGradient) : answer))
    if (config.keep === null) return own
    const unknown = config.keep.find((path) => !sites.some((site) => site.path === path))
    if (unknown !== undefined)
      throw new ConfigError(
        `lora-drop: keep has ${JSON.stringify(unknown)}, which is not an adapted linear.`,
        {
          path: unknown,
        },
      )
    const kept = new Set(config.keep)
    return own.map((answer, i) => {
      const site = sites[i] as LinearSite
      return kept.has(site.path) ? answer : withSharedPair(answer, site)
    })
  },
  probe: (config) => (config.keep === null ? probeOf(config) : undefined),
  remarks: ({ threshold }) =>
    threshold < 1 ? [] : ['threshold 1 keeps every linear, which is plain LoRA after a probe'],
}

/** Uses a pair shared by all layers with this name, shape, and rank; in files each has its own copy. */
function withSharedPair(answer: LinearAdapter, site: LinearSite): LinearAdapter {
  const { term, factors } = answer
  const { a, b } = term.parameters as RankedTerm['parameters']
  const shared = (factor: string) =>
    `shared.${kindOf(site)}.${term.numbers.rank}${factor.slice(site.path.length)}`
  return {
    ...answer,
    term: withRoles(term, { a: shared(a), b: shared(b) }),
    factors: factors.map((factor) => ({ ...factor, name: shared(factor.name) })),
  }
}

/** Layers of the same kind may share a pair. */
const kindOf = (site: LinearSite): string => `${lastName(site.path)}.${site.out}x${site.in}`

/** The transformer layer of a path: the path up to the layer index. */
const layerOf = (path: string): string => /^.*\.\d+(?=\.)/.exec(path)?.[0] ?? path

function probeOf(config: LoraDropConfig): Probe {
  const { name: _, ...options } = asLora(config)
  const { projectGradient } = config
  return {
    adapter: config.freezeA ? loraFa({ ...options, projectGradient }) : lora(options),
    sampleFraction: config.sampleFraction,
    steps: config.probeSteps,
    choose: (norms): LoraDropConfig =>
      deepFreeze({
        ...config,
        keep: linearsToKeep(norms, config),
        importances: importancesOf(norms, config.scope),
      }),
  }
}

type Scope = LoraDropConfig['scope']

/** Groups of layers to compare, each divided into units that are kept or shared as a whole. */
type Groups = Map<string, Map<string, OutputNorm[]>>

function groupsOf(norms: readonly OutputNorm[], scope: Scope): Groups {
  const groups: Groups = new Map()
  for (const one of norms) {
    const group = scope === 'type' ? kindOf(one.site) : 'all layers'
    const unit = scope === 'type' ? one.site.path : layerOf(one.site.path)
    const units = groups.get(group) ?? new Map<string, OutputNorm[]>()
    units.set(unit, [...(units.get(unit) ?? []), one])
    groups.set(group, units)
  }
  return groups
}

const sumOf = (norms: readonly OutputNorm[]): number => norms.reduce((sum, { value }) => sum + value, 0)

/** Importance of each layer as a fraction of its group's total, to four significant digits. */
function importancesOf(norms: readonly OutputNorm[], scope: Scope): Record<string, number> {
  const shares = new Map<string, number>()
  for (const units of groupsOf(norms, scope).values()) {
    const all = [...units.values()].flat()
    for (const { site, value } of all) shares.set(site.path, Number((value / sumOf(all)).toPrecision(4)))
  }
  return Object.fromEntries(norms.map(({ site }) => [site.path, shares.get(site.path) as number]))
}

/**
 * Chooses the layers that keep their own pair: in each group, the most important ones that together reach the
 * threshold. Ties go to the earlier one.
 * @throws {ConfigError} for a group to which the adapter contributes nothing
 */
export function linearsToKeep(
  norms: readonly OutputNorm[],
  { threshold, scope }: Pick<LoraDropConfig, 'threshold' | 'scope'>,
): string[] {
  const kept = new Set(
    [...groupsOf(norms, scope)].flatMap(([group, units]) =>
      mostImportant(group, [...units.values()], threshold),
    ),
  )
  return norms.flatMap(({ site }) => (kept.has(site.path) ? [site.path] : []))
}

function mostImportant(group: string, units: OutputNorm[][], threshold: number): string[] {
  const sums = units.map(sumOf)
  const total = sums.reduce((sum, value) => sum + value, 0)
  if (!(total > 0))
    throw new ConfigError(
      `lora-drop: the probe changed nothing at ${group}, so its linears cannot be ranked; train it for more steps (probe_steps), or on more data (sample_fraction).`,
      { group },
    )
  const order = [...units.keys()].sort((i, j) => (sums[j] as number) - (sums[i] as number) || i - j)
  const kept: string[] = []
  let share = 0
  for (const i of order) {
    if (threshold < 1 && share >= threshold - 1e-12) break
    kept.push(...(units[i] as OutputNorm[]).map(({ site }) => site.path))
    share += (sums[i] as number) / total
  }
  return kept
}
