/**
 * Trained parameters other than an adapter's factors: whole modules (`modules_to_save`) and biases of the base. Each
 * such weight is trained as a copy that replaces the original while the adapter is active. Which weights are trained,
 * and their names in files, follow PEFT.
 */
import { ConfigError } from '../core/errors.js'
import { quote } from '../core/quote.js'
import { shapeOf } from '../graph/graph.js'
import type { Factor, LinearSite, OptimizerGroup, Targeting, WeightSite } from './strategy.js'
import { enclosing, lastName, trainsWhole } from './targets.js'

/** Group for norms and biases, which are trained without weight decay, as in transformers' trainer. */
export const undecayedGroup: OptimizerGroup = { name: 'undecayed', learningRateFactor: 1, decays: false }

/**
 * Factors for the trained weights.
 * @param group optimizer group for matrices
 */
export function trainedCopies(
  rules: Targeting,
  weights: readonly WeightSite[],
  adapted: readonly LinearSite[],
  group: string,
): Factor[] {
  const biases = new Set(trainedBiases(rules, weights, adapted))
  const trained = weights.filter(
    (weight) => weight.modules.some((path) => trainsWhole(rules, path)) || biases.has(weight),
  )
  return trained.flatMap((weight) => {
    const { name, rows, cols, kind, modules } = weight
    const vector = kind === 'vector'
    // PEFT wraps adapted layers, so their bias moves to the inner `base_layer`.
    const inner = isAdapted(weight, adapted) ? 'base_layer.' : ''
    return modules.map(
      (path): Factor => ({
        name,
        rows,
        cols,
        trained: true,
        initializer: { kind: 'weight', weight: name },
        group: vector ? undecayedGroup.name : group,
        ...(vector ? { role: 'b' } : {}),
        tensor: {
          name: `base_model.model.${path}.${inner}${lastName(name)}`,
          shape: shapeOf(weight),
        },
      }),
    )
  })
}

/** @throws {ConfigError} for a name that matches no module, or for biases in a model without any */
export function checkTrained(
  rules: Targeting,
  weights: readonly WeightSite[],
  adapted: readonly LinearSite[],
): void {
  const { modulesToSave, bias = 'none' } = rules
  if (modulesToSave == null && bias === 'none') return
  const modules = [...new Set(weights.flatMap((weight) => weight.modules.flatMap(enclosing)))]
  for (const wanted of modulesToSave ?? []) {
    if (modules.some((path) => path.endsWith(wanted))) continue
    const ends = [...new Set(modules.map(lastName))].filter((end) => !/^\d+$/.test(end))
    throw new ConfigError(
      `modules_to_save: no module matches ${quote(wanted)}. Modules of this model end in: ${ends.join(', ')}.`,
      { modulesToSave, name: wanted },
    )
  }
  if (bias === 'none' || trainedBiases(rules, weights, adapted).length > 0) return
  const which = bias === 'all' ? 'linear of this model' : 'adapted linear'
  throw new ConfigError(`bias is ${bias}, but no ${which} has a bias; leave it out.`, { bias })
}

function trainedBiases(
  { bias = 'none' }: Targeting,
  weights: readonly WeightSite[],
  adapted: readonly LinearSite[],
): WeightSite[] {
  if (bias === 'none') return []
  const all = weights.filter(({ name }) => lastName(name) === 'bias')
  return bias === 'all' ? all : all.filter((weight) => isAdapted(weight, adapted))
}

function isAdapted({ modules }: WeightSite, adapted: readonly LinearSite[]): boolean {
  return adapted.some(({ path }) => modules.includes(path))
}
