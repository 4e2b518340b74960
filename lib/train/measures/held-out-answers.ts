/** Answers to the held-out rows of a run, measured by its evaluations along with the loss. */
import type { AdapterState, BaseModel } from '../../base/base.js'
import { DataError } from '../../core/errors.js'
import { mean } from '../../core/mean.js'
import type { AskedRow } from '../../data/asked-rows.js'
import type { NativeSession, PlanOptions } from '../../native/addon.js'
import { isOfAnswers, isOfGenerated } from '../../options/task.js'
import type { TrainOptions } from '../../options/types.js'
import { ANSWER_PLAN, MATCH_PLAN } from '../../planning/plans.js'
import { metricName } from '../../tasks/metrics.js'
import type { Rewards } from '../../tasks/rewards.js'
import { answerRows } from '../answers/samples.js'
import { Decoder } from '../decoding/decoder.js'
import { type Examples, rowsInOrder } from '../rows/data.js'
import type { KnownFormat } from '../rows/prompting.js'
import type { EvaluateControl, Evaluation } from '../steps/evaluate.js'
import type { StepAnswer } from '../steps/events.js'
import { customScores, wordF1 } from './answer-scores.js'
import { countMatches } from './exact-match.js'
import { itemOf, loadRewards, rewardsOf } from './reward-functions.js'
import { answersBy, questionsOf, scoredRows } from './row-measures.js'

type Options = Pick<
  TrainOptions,
  'task' | 'metricForBestModel' | 'maxSeqLength' | 'evalGenerate' | 'rewardFunctions' | 'maxCompletionLength'
>
type Measured = Pick<Evaluation, 'exactMatch' | 'meanTokenAccuracy' | 'f1' | 'scores' | 'reward'>

export class HeldOutAnswers {
  readonly #base: BaseModel
  readonly #adapter: AdapterState
  readonly #plans: Readonly<Record<string, PlanOptions>>
  readonly #options: Options
  readonly #examples: Examples

  /**
   * @param plans plans of the evaluating session
   * @throws {DataError} for a metric of generated answers when no held-out row contains a question
   */
  constructor(
    { base, adapter, plans }: { base: BaseModel; adapter: AdapterState; plans: Record<string, PlanOptions> },
    options: Options,
    examples: Examples,
  ) {
    this.#base = base
    this.#adapter = adapter
    this.#plans = plans
    this.#options = options
    this.#examples = examples
    const { task, metricForBestModel: metric } = options
    if (isOfGenerated(task, metric) && questionsOf(examples).every((question) => question === null))
      throw new DataError(
        `metric_for_best_model is ${metricName(metric)}, but no held-out row has a prompt and an answer to it that is trained on; use loss, exact_match, or mean_token_accuracy, or other rows.`,
        { metric: metricName(metric) },
      )
    const measuresPrompts = typeof metric !== 'string' || metric === 'reward'
    if (examples.rows.some((row) => examples.data.rowSupervised(row) > 0) || measuresPrompts) return
    throw new DataError(
      `metric_for_best_model is ${metric}, but the held-out rows are prompts without answers, which have no ${metric}; set metric_for_best_model: reward.`,
      { metric },
    )
  }

  /** The metric that selects the best model, if it is a metric of answers. */
  async measure(session: NativeSession, control: EvaluateControl): Promise<Measured> {
    const { task, metricForBestModel: metric, maxSeqLength, maxCompletionLength } = this.#options
    if (!isOfAnswers(task, metric)) return {}
    const rows = rowsInOrder(this.#examples, maxSeqLength)
    const { exactMatch, meanTokenAccuracy, matched } = await countMatches(session, MATCH_PLAN, rows, control)
    if (metric === 'exact_match') return { exactMatch }
    if (metric === 'mean_token_accuracy') return { meanTokenAccuracy }
    const tokenizer = await this.#base.tokenizer()
    const decoder = this.#decoder(session)
    const { data, rows: indices } = this.#examples
    const questions = questionsOf(this.#examples)
    // Prompts alone do not tell how long an answer is.
    const open = questions.some((question) => question?.answer.length === 0)
    const rowsWithAnswers = await scoredRows(
      tokenizer,
      questions,
      matched,
      (asked, limit) => answersBy(decoder, this.#base, this.#format, asked, limit, control),
      open ? (maxCompletionLength ?? maxSeqLength) : undefined,
    )
    const answered = rowsWithAnswers
      .map((row, index) => ({ ...row, item: itemOf(data, indices[index] as number) }))
      .filter((_, row) => questions[row] !== null)
    if (metric === 'reward') {
      const rewards = loadRewards(this.#options.rewardFunctions as Rewards)
      const scored = await rewardsOf(rewards, answered, control.signal)
      return { reward: mean(scored.map((each) => each.reduce((sum, reward) => sum + reward, 0))) }
    }
    if (typeof metric === 'string') return { f1: mean(answered.map(wordF1)) }
    return { scores: { [metric.name]: mean(customScores(metric, answered, 'train()')) } }
  }

  /** The current adapter's answers to the first rows that can be asked. */
  async answers(
    session: NativeSession,
    rows: readonly AskedRow[],
    control: EvaluateControl,
  ): Promise<StepAnswer[]> {
    const { evalGenerate } = this.#options
    return answerRows(this.#base, this.#format, this.#decoder(session), rows, evalGenerate, control)
  }

  /** The prompt format of the adapter; before the first step on a stream, of the data. */
  get #format(): KnownFormat {
    return this.#adapter.format ?? this.#examples.data.format
  }

  /**
   * New for each evaluation, because the key/value cache of the last one belongs to an earlier state of the
   * adapter.
   */
  #decoder(session: NativeSession): Decoder {
    return Decoder.on(this.#base, session, ANSWER_PLAN, this.#plans[ANSWER_PLAN] as PlanOptions)
  }
}
