/** Turns a strategy and a model's layers into the full description of an adapter for native code. */
import { breather } from '../core/breather.js'
import { ConfigError, InternalError } from '../core/errors.js'
import type { TensorSource } from '../formats/tensor-source.js'
import type { Graph, GraphWeight } from '../graph/graph.js'
import type { NativeAdapter, NativeModel } from '../native/addon.js'
import { translatedAsync } from '../native/errors.js'
import { describeQuantization, type Quantization } from '../weights/quantization.js'
import { rulesOf } from './index.js'
import type {
  AdapterDescription,
  Classes,
  ComputedStart,
  Factor,
  LinearSite,
  OptimizerGroup,
  StrategyConfig,
  StrategyRules,
  WeightSite,
} from './strategy.js'
import { checkPatterns, resolveTargets } from './targets.js'
import type { LowRankTerm } from './terms.js'
import { torchUniform } from './torch-random.js'
import { checkTrained } from './trained.js'

export { remarksOn } from './remarks.js'

/** The linear layers of a graph that adapters may attach to, in order, preceded by the embedding. */
export function linearSites(graph: Graph): LinearSite[] {
  const weights = new Map(graph.weights.map((weight) => [weight.name, weight]))
  return graph.nodes.flatMap((node): LinearSite[] => {
    if (node.op !== 'linear' && node.op !== 'embedding') return []
    const { rows, cols } = weights.get(node.weight) as GraphWeight
    if (node.op === 'embedding') return [{ path: node.path, in: rows, out: cols, embedding: true }]
    return [{ path: node.path, in: cols, out: rows }]
  })
}

/** The weights of a graph with the modules that use them. @param classes of a classifier's head */
export function weightSites(graph: Graph, classes?: Classes): WeightSite[] {
  const modules = new Map<string, string[]>(graph.weights.map(({ name }) => [name, []]))
  for (const node of graph.nodes) {
    if ('weight' in node) modules.get(node.weight)?.push(node.path)
    if ('bias' in node && node.bias !== undefined) modules.get(node.bias)?.push(node.path)
  }
  const head = classes && graph.nodes.find(({ op }) => op === 'lm_head')
  return graph.weights.map((weight) => ({
    ...weight,
    modules: modules.get(weight.name) as string[],
    ...(head && 'weight' in head && head.weight === weight.name ? { classes } : {}),
  }))
}

/**
 * Describes the adapter of a strategy on the given layers.
 * @param options.strict every name in target_modules and every pattern must match something; default true
 * @param options.weights weights of the base; required by strategies that train base weights
 * @throws {ConfigError} when the strategy's targets match nothing, or something that it cannot train
 */
export function describeAdapter(
  strategy: StrategyConfig,
  sites: readonly LinearSite[],
  { strict = true, weights = [] }: { strict?: boolean; weights?: readonly WeightSite[] } = {},
): AdapterDescription {
  const rules = rulesOf(strategy)
  const targeting = rules.targeting(strategy)
  const targets = resolveTargets(targeting, sites, strict)
  checkEmbeddings(rules, strategy, targets)
  if (strict) {
    checkPatterns(strategy, targets)
    checkTrained(targeting, weights, targets)
  }
  const answers = rules.linears(strategy, targets)
  const factors = new Map<string, Factor>()
  const repeats: AdapterDescription['repeats'] = []
  const head = weights.find(({ classes }) => classes !== undefined)
  if (head !== undefined && rules.saves === 'model')
    throw new ConfigError(
      `strategy ${strategy.name} trains the whole model and has no adapter, which the head of a classifier is kept with; use another strategy.`,
      { strategy: strategy.name },
    )
  const copies = [
    ...(head ? [headFactor(head, rules.groups(strategy)[0] as OptimizerGroup)] : []),
    ...(rules.copies?.(strategy, weights, targets) ?? []),
  ]
  for (const factor of [...answers.flatMap((answer) => answer.factors), ...copies]) {
    const known = factors.get(factor.name)
    if (known && (known.rows !== factor.rows || known.cols !== factor.cols))
      throw new InternalError(`strategy ${strategy.name} gives ${factor.name} two shapes`, { known, factor })
    if (known === undefined) factors.set(factor.name, factor)
    else if (factor.tensor && factor.tensor.name !== known.tensor?.name)
      repeats.push({ factor: known, tensor: factor.tensor })
  }
  const list = [...factors.values()].filter(({ rows, cols }) => rows * cols > 0)
  const copied = new Map(copies.map((copy) => [copy.name, copiedWeight(copy)]))
  const active = answers.filter(({ term }) => term.numbers.rank !== 0)
  const groups = rules.groups(strategy).filter(({ name }) => list.some(({ group }) => group === name))
  const privacy = rules.privacy?.(strategy)
  return {
    strategy,
    spec: {
      parameters: list.map(({ name, rows, cols, trained, group }) => ({
        name,
        rows,
        cols,
        trained,
        group: indexOf(group, groups),
      })),
      terms: active.map((answer) => answer.term),
      copies: [...copied].map(([parameter, weight]) => ({ parameter, weight })),
      // One per B, which layers may share.
      projections: [
        ...new Map(
          answers.flatMap(({ term, projected }) => {
            const { parameters, numbers } = term as LowRankTerm
            const { a, b } = parameters
            return projected ? [[b, { a, b, scale: numbers.scale }]] : []
          }),
        ).values(),
      ],
      triplets: active.flatMap(({ term, triplet }) => {
        const { a, d, b } = (term as LowRankTerm).parameters
        return triplet && d !== undefined ? [{ a, d, b, ...triplet }] : []
      }),
      ...(privacy ? { privacy: privacy.privacyUnit === 'user' ? 'clients' : 'examples' } : {}),
    },
    factors: list,
    starts: answers.flatMap(({ term, start }) => (start === undefined ? [] : [{ term, start }])),
    repeats,
    empty: [...factors.values()].filter(({ rows, cols }) => rows * cols === 0),
    groups: groups.map((group) => ({
      ...group,
      parameters: list.filter((f) => f.trained && f.group === group.name).map((f) => f.name),
    })),
    targeting,
    trained: weights.filter(({ name }) => copies.some((copy) => copiedWeight(copy) === name)),
    labels: head?.classes?.labels ?? null,
    targets: targets.map((site) => site.path),
    linears: sites.map((site) => site.path),
  }
}

function checkEmbeddings(
  rules: StrategyRules,
  strategy: StrategyConfig,
  targets: readonly LinearSite[],
): void {
  const embedding = targets.find((site) => site.embedding)
  if (embedding === undefined || rules.embeddings?.(strategy)) return
  throw new ConfigError(
    `target_modules: strategy ${strategy.name} adapts only linears, but ${embedding.path} is an embedding; leave it out, or adapt it with lora.`,
    { strategy: strategy.name, target: embedding.path },
  )
}

/** Data needed for computed initial values. */
export interface StartingBase {
  native: NativeModel
  graph: Graph
  files: { tensors: ReadonlyMap<string, TensorSource> }
  quantization: Quantization
}

/**
 * Sets the initial values of every factor in a new adapter.
 * @throws {ConfigError} for a LoftQ initialization when the base is not quantized, or was already quantized in its
 * files
 */
export async function initialize(
  adapter: NativeAdapter,
  { factors, starts }: Pick<AdapterDescription, 'factors' | 'starts'>,
  base: StartingBase,
  seed: number,
): Promise<void> {
  const breathe = breather()
  for (const { name, rows, cols, initializer } of factors) {
    await breathe()
    if (initializer.kind === 'weight')
      await translatedAsync(() => adapter.copyWeight(name, base.native, initializer.weight).promise)
    else if (initializer.kind === 'row_norms')
      await translatedAsync(() => adapter.fillRowNorms(name, base.native).promise)
    else if (initializer.kind === 'values') adapter.write(name, 'value', initializer.make())
    else if (initializer.kind === 'torch_uniform') {
      const { seed: own, bound, skip } = initializer
      adapter.write(name, 'value', torchUniform(own, rows * cols, bound, skip))
    } else if (initializer.kind === 'uniform' || initializer.kind === 'normal')
      adapter.fill(name, { ...initializer, seed })
    else adapter.fill(name, initializer)
  }
  for (const { term, start } of starts) await computeStart(adapter, term as LowRankTerm, start, base, seed)
}

async function computeStart(
  adapter: NativeAdapter,
  { target, parameters: { a, b, snapshotA, snapshotB }, numbers: { rank, scale } }: LowRankTerm,
  { of, form, blocks }: ComputedStart,
  base: StartingBase,
  seed: number,
): Promise<void> {
  const { name: weight } = weightAt(target, base.graph)
  const source = of === 'loss' ? { source: originalOf(weight, base) } : {}
  const options = { form, rank, seed, adapters: [], ...(blocks === undefined ? {} : { blocks }), ...source }
  const factors = await translatedAsync(() => base.native.decompose(weight, options).promise)
  if (factors.square === 0) return // quantization was lossless here
  const share = form === 'svd' ? 1 / Math.sqrt(scale) : 1
  for (const [names, values] of [
    [[a, snapshotA], factors.a.map((value) => value * share)],
    [[b, snapshotB], factors.b.map((value) => value * share)],
  ] as const)
    for (const name of names) if (name !== undefined) adapter.write(name, 'value', values)
}

/** The weight of a linear layer. */
export function weightAt(target: string, graph: Graph): GraphWeight {
  const node = graph.nodes.find(({ path }) => path === target)
  const weight = node?.op === 'linear' && graph.weights.find(({ name }) => name === node.weight)
  if (weight) return weight
  throw new InternalError(`${target} is not a linear, but its weight was requested`)
}

/** Location of a weight before quantization. */
function originalOf(weight: string, { files, quantization }: StartingBase): TensorSource {
  const source = files.tensors.get(weight) as TensorSource
  const why =
    quantization.type === 'none'
      ? 'the model was loaded without any; load it with quantization nf4'
      : quantization.type === 'keep'
        ? 'GGUF blocks were quantized before loading; load it with quantization nf4'
        : source.scales !== undefined
          ? `its files hold ${describeQuantization(quantization)} already; load the model that it was made from, with that quantization`
          : undefined
  if (why === undefined) return source
  throw new ConfigError(`init_lora_weights is loftq, which starts from the quantization error, but ${why}.`, {
    weight,
    quantization,
  })
}

function indexOf(group: string, groups: readonly OptimizerGroup[]): number {
  const index = groups.findIndex(({ name }) => name === group)
  if (index >= 0) return index
  throw new InternalError(`a factor is in optimizer group ${group}, which the strategy does not have`)
}

/** The head of a classifier, which is initialized randomly and trained along with the factors. */
function headFactor(
  { name, rows, cols, modules, classes }: WeightSite,
  { name: group }: OptimizerGroup,
): Factor {
  return {
    name,
    rows,
    cols,
    trained: true,
    initializer: { kind: 'normal', std: (classes as Classes).deviation },
    group,
    tensor: { name: `base_model.model.${modules[0]}.weight`, shape: [rows, cols] },
    replaces: name,
  }
}

function copiedWeight({ initializer, replaces }: Factor): string {
  if (replaces !== undefined) return replaces
  if (initializer.kind === 'weight') return initializer.weight
  throw new InternalError(
    `a trained base weight starts as ${initializer.kind}, expected a copy of the weight`,
  )
}
