/** When a run evaluates: before the first step, after the steps set by `evalSteps`, and after the last one. */
import type { NativeSession } from '../../native/addon.js'
import { EVAL_PLAN } from '../../planning/plans.js'
import { HeldOutAnswers } from '../measures/held-out-answers.js'
import type { RunData } from '../rows/data.js'
import { isDue, standing } from '../steps/best.js'
import { type EvaluateControl, evaluateBatches } from '../steps/evaluate.js'
import type { AnswersEvent, EvalEvent } from '../steps/events.js'
import type { Steps, TrainingState } from '../steps/step.js'
import type { RunSetup } from './run-setup.js'

export class EvaluationSchedule {
  readonly #setup: RunSetup
  readonly #data: Pick<RunData, 'evaluation' | 'unseen'>
  readonly #heldOut: HeldOutAnswers | undefined

  /** @throws {DataError} for a metric of generated answers when no held-out row contains a question */
  constructor(setup: RunSetup, data: RunData) {
    const { base, options } = setup
    this.#setup = setup
    this.#data = data
    if (data.evaluationExamples !== null)
      this.#heldOut = new HeldOutAnswers(setup, options, data.evaluationExamples)
    if (options.evalGenerate > 0 && data.unseen().length === 0)
      base.warn(
        `eval_generate is ${options.evalGenerate}, but no held-out row begins with a question and an answer, so no answers are shown.`,
      )
  }

  get control(): EvaluateControl {
    const { signal, onEvalProgress: onProgress, ranks, pipe } = this.#setup
    return { signal, onProgress, ranks, pipe }
  }

  /** True if the metric has not improved for as long as the run waits for it (early stopping). */
  stops({ evaluations }: TrainingState): boolean {
    return standing(evaluations, this.#setup.options).stops
  }

  /**
   * Evaluates if it is due, never twice at a step. Returns nothing if the run is aborted meanwhile, since the step itself
   * is complete.
   */
  async run(
    session: NativeSession,
    state: TrainingState,
    steps: Steps,
  ): Promise<(EvalEvent | AnswersEvent)[]> {
    const { signal } = this.#setup
    if (!this.#isDue(state)) return []
    try {
      return await this.#evaluate(session, state, steps)
    } catch (error) {
      if (signal?.aborted) return []
      throw error
    }
  }

  #isDue({ step, totalSteps, evaluations }: TrainingState): boolean {
    const { evalSteps } = this.#setup.options
    const due = step === 0 || step >= totalSteps || isDue(evalSteps, step)
    return due && this.#data.evaluation !== null && evaluations.at(-1)?.step !== step
  }

  async #evaluate(
    session: NativeSession,
    { step, evaluations }: TrainingState,
    steps: Steps,
  ): Promise<(EvalEvent | AnswersEvent)[]> {
    const { options, use, ranks } = this.#setup
    const { control } = this
    const source = this.#data.evaluation as NonNullable<RunData['evaluation']>
    const found = await use(
      () =>
        steps.evaluate?.(session, source, control) ?? evaluateBatches(session, EVAL_PLAN, source, control),
    )
    const measured = await use(async () => this.#heldOut?.measure(session, control))
    // Taken from rank 0, because it may decide which step is the best and when the run ends.
    const evaluation = await ranks.firsts('evaluation', async () => ({ step, ...found, ...measured }))
    const answered = async () =>
      ranks.isFirst && options.evalGenerate > 0
        ? this.#heldOut?.answers(session, this.#data.unseen(), control)
        : []
    const rows = await ranks.firsts('answers', async () => (await use(answered)) ?? [])
    const { confusionMatrix: _, ...kept } = evaluation
    evaluations.push(kept)
    const told: AnswersEvent[] = rows.length > 0 ? [{ event: 'answers', step, rows }] : []
    return [{ event: 'eval', ...evaluation }, ...told]
  }
}
