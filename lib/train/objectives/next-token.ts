/** Next-token prediction, whose cross-entropy the engine computes itself. */
import type { Metrics } from '../../losses/rows.js'
import type { NativeSession } from '../../native/addon.js'
import { EVAL_PLAN } from '../../planning/plans.js'
import type { BatchSource, Window } from '../rows/batches.js'
import { type EvaluateControl, type Evaluation, evaluateBatches } from '../steps/evaluate.js'
import type { Objective, WorkOf } from '../steps/objective.js'

export class NextToken implements Objective {
  readonly losses = 'sums'

  window(_: NativeSession, window: Window): WorkOf {
    const lossScale = 1 / window.supervised
    return (batch) => ({ batch, head: { kind: 'scaled', lossScale } })
  }

  evaluate(session: NativeSession, source: BatchSource, control: EvaluateControl): Promise<Evaluation> {
    return evaluateBatches(session, EVAL_PLAN, source, control)
  }

  named({ hits }: Metrics): Partial<Evaluation> {
    return hits === undefined ? {} : { meanTokenAccuracy: hits.sum / hits.count }
  }
}
