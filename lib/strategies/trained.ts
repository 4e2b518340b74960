/**
 * Trained parameters besides the factors of an adapter: whole modules (`modules_to_save`) and biases of the base. Each
 * such weight trains as a copy that stands in for it while the adapter is on; what is trained, and its names in files,
 * follow PEFT.
 */
import { ConfigError } from '../core/errors.js'
import { quote } from '../core/quote.js'
import type { Factor, LinearSite, OptimizerGroup, Targeting, WeightSite } from './strategy.js'
import { enclosing, lastName, trainsWhole } from './targets.js'

/** Group of norms and biases, which train without weight decay, as in transformers' trainer. */
export const undecayedGroup: OptimizerGroup = { name: 'undecayed', learningRateFactor: 1, decays: false }

/**
 * Factors for the weights that train.
 * @param group of matrices
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
    // PEFT wraps a linear that it adapts, and what was its bias becomes one of the layer inside.
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
          shape: vector ? [cols] : [rows, cols],
        },
      }),
    )
  })
}

/** @throws {ConfigError} for a name that matches no module, or biases where there are none */
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
