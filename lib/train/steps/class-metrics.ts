/** Metrics of a classifier, computed from its confusion matrix. Also runs in browsers. */

export interface ClassMetrics {
  /**
   * Share of rows whose class is predicted correctly, which equals micro F1 with one class per row. For task
   * `causal_lm`: share of supervised tokens predicted correctly, measured if it is the `metricForBestModel`.
   */
  accuracy?: number
  /**
   * Mean over all classes of F1, the harmonic mean of precision and recall; 0 for a class that is in neither
   * data nor predictions.
   */
  macroF1?: number
  /** F1 of all classes counted together. */
  microF1?: number
  /** Matthews correlation of true and predicted classes; 0 if either is constant. */
  matthewsCorrelation?: number
  /** Rows by class (first index) and predicted class (second), in the order of the labels. */
  confusionMatrix?: ConfusionMatrix
}

/** Rows by class (first index) and predicted class (second). */
export type ConfusionMatrix = readonly (readonly number[])[]

/** Scores of one class; a score that would divide by 0 is 0, as in scikit-learn. */
export interface ClassScores {
  /** Share of the rows predicted as this class that are of it. */
  precision: number
  /** Share of the rows of this class that are predicted as it. */
  recall: number
  /** Harmonic mean of precision and recall. */
  f1: number
  /** Rows of this class. */
  support: number
}

/** The scores of each class, in the order of the matrix. */
export function classScores(matrix: ConfusionMatrix): ClassScores[] {
  const share = (part: number, whole: number) => (whole === 0 ? 0 : part / whole)
  return matrix.map((row, id) => {
    const right = row[id] as number
    const support = row.reduce((sum, count) => sum + count, 0)
    const predicted = matrix.reduce((sum, other) => sum + (other[id] as number), 0)
    return {
      precision: share(right, predicted),
      recall: share(right, support),
      f1: share(2 * right, support + predicted),
      support,
    }
  })
}

/** Confusion matrix: counts of each pair of true and predicted class. */
export class Confusion {
  readonly #classes: number
  readonly #counts: Float64Array

  constructor(classes: number) {
    this.#classes = classes
    this.#counts = new Float64Array(classes * classes)
  }

  add(actual: number, predicted: number): void {
    ;(this.#counts[actual * this.#classes + predicted] as number)++
  }

  get matrix(): ConfusionMatrix {
    const k = this.#classes
    return Array.from({ length: k }, (_, a) => Array.from(this.#counts.subarray(a * k, (a + 1) * k)))
  }

  metrics(): Required<ClassMetrics> {
    const k = this.#classes
    const [actual, predicted, right] = [new Float64Array(k), new Float64Array(k), new Float64Array(k)]
    for (let a = 0; a < k; a++)
      for (let p = 0; p < k; p++) {
        const count = this.#counts[a * k + p] as number
        ;(actual[a] as number) += count
        ;(predicted[p] as number) += count
        if (a === p) right[a] = count
      }
    const sum = (of: (id: number) => number) => actual.reduce((total, _, id) => total + of(id), 0)
    const at = (of: Float64Array, id: number) => of[id] as number
    const rows = sum((id) => at(actual, id))
    const correct = sum((id) => at(right, id))
    const f1 = (id: number) => {
      const both = at(actual, id) + at(predicted, id)
      return both === 0 ? 0 : (2 * at(right, id)) / both
    }
    const covariance = correct * rows - sum((id) => at(actual, id) * at(predicted, id))
    const spread = (of: Float64Array) => rows ** 2 - sum((id) => at(of, id) ** 2)
    const root = Math.sqrt(spread(actual) * spread(predicted))
    const accuracy = rows === 0 ? 0 : correct / rows
    return {
      accuracy,
      macroF1: sum(f1) / k,
      microF1: accuracy,
      matthewsCorrelation: root === 0 ? 0 : covariance / root,
      confusionMatrix: this.matrix,
    }
  }
}

/** The class with the largest score, the first one on a tie. */
export function largestOf(scores: Float32Array, row: number, classes: number): number {
  let best = 0
  for (let id = 1; id < classes; id++)
    if ((scores[row * classes + id] as number) > (scores[row * classes + best] as number)) best = id
  return best
}
