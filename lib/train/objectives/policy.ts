/**
 * Training by rewards (GRPO, Shao et al. 2024, arXiv 2402.03300): a step samples a group of answers to each of its
 * prompts, and makes those likelier that have a higher reward than their group. Answers are sampled in the session that
 * trains, so there is one copy of the weights.
 */
import type { BaseModel } from '../../base/base.js'
import { DataError } from '../../core/errors.js'
import { mean } from '../../core/mean.js'
import type { EncodedDataset } from '../../data/encoded-dataset.js'
import type { MicroBatch } from '../../data/pack.js'
import { drawBelow } from '../../data/permutation.js'
import { groupAdvantages, isUniform, type ScaleRewards, standardDeviation } from '../../losses/advantages.js'
import { lossOf, type NamedLoss } from '../../losses/index.js'
import { headWeights, inMicroBatches, type RowBatch, scoredRows } from '../../losses/micro-batches.js'
import { type Denominators, weightOf } from '../../losses/rows.js'
import type { NativeSession, PlanOptions } from '../../native/addon.js'
import { ANSWER_PLAN, EVAL_PLAN } from '../../planning/plans.js'
import { taskOptions, taskRules } from '../../tasks/index.js'
import type { RewardedAnswer, Rewards } from '../../tasks/rewards.js'
import { generateSchema } from '../answers/generate.js'
import { drawAnswer, type Sample, SEEDS } from '../answers/sampled-answers.js'
import { Decoder } from '../decoding/decoder.js'
import { itemOf, loadRewards, type NamedReward, rewardsOf } from '../measures/reward-functions.js'
import { type Question, questionsIn, questionsOf, textOf } from '../measures/row-measures.js'
import type { BatchSource, Window } from '../rows/batches.js'
import type { Examples, RunData } from '../rows/data.js'
import { endIds } from '../rows/prompting.js'
import {
  type EvaluateControl,
  type Evaluation,
  evaluateBatches,
  type RewardMetrics,
} from '../steps/evaluate.js'
import type { Objective, WorkOf } from '../steps/objective.js'
import type { MakeSteps, StepSetup } from '../steps/step.js'
import { stepsOf } from './gradient-steps.js'

/** The inputs of sampling beyond the setup of a step. */
interface Sampling {
  base: BaseModel
  /** Plans of the session that trains. */
  plans: Readonly<Record<string, PlanOptions>>
  onProgress?: ((progress: SampleProgress) => void) | undefined
}

/** Progress of sampling in a step of task `grpo`. */
export interface SampleProgress {
  answers: number
  totalAnswers: number
}

/** Steps on answers that are sampled in the step. */
export const policySteps = (sampling: Sampling): MakeSteps =>
  stepsOf((setup, _, data) => new PolicyObjective(sampling, setup, data))

/** Options of the task with their defaults. */
interface PolicyOptions {
  readonly lossType: 'dapo' | 'grpo' | 'dr_grpo'
  readonly numGenerations: number
  readonly maxCompletionLength: number | null
  readonly scaleRewards: ScaleRewards
}

class PolicyObjective implements Objective {
  readonly losses = 'parts of a mean'
  readonly #sampling: Sampling
  readonly #setup: StepSetup
  readonly #policy: PolicyOptions & { readonly maxCompletionLength: number }
  readonly #rewards: readonly NamedReward[]
  readonly #data: EncodedDataset
  /** Rows of the micro-batches of the current step. */
  #made = new Map<MicroBatch, RowBatch>()
  #measured: RewardMetrics = {}
  #warned = false

  /** @throws {ConfigError} for reward functions that cannot be loaded; DataError for rows without a prompt */
  constructor(sampling: Sampling, setup: StepSetup, { examples }: RunData) {
    this.#sampling = sampling
    this.#setup = setup
    const { options } = setup
    const { maxCompletionLength, ...policy } = taskOptions<PolicyOptions>({ ...options })
    this.#policy = { ...policy, maxCompletionLength: maxCompletionLength ?? options.maxSeqLength }
    this.#rewards = loadRewards(setup.options.rewardFunctions as Rewards)
    this.#data = (examples as Examples).data
    const without = questionsOf(examples as Examples).filter((question) => question === null).length
    if (without > 0)
      throw new DataError(
        `task grpo samples answers to prompts, but ${without} of ${examples?.rows.length} rows have no prompt before what is trained on; use rows of prompt and completion, or chats.`,
        { without },
      )
  }

  /** Samples and scores answers to the prompts of a window; the new window holds the answers. */
  async answered(session: NativeSession, window: Window, step: number): Promise<Window> {
    const questions = window.batches.flatMap(questionsIn) as Question[]
    const items = window.batches.flatMap(({ rows }) =>
      Array.from(rows ?? [], (row) => itemOf(this.#data, row)),
    )
    const groups = await this.#sample(session, questions, step)
    const scored = await this.#score(questions, items, groups)
    const rewards = scored.map((group) => group.map((each) => each.reduce((sum, reward) => sum + reward, 0)))
    this.#measure(groups, scored, rewards)
    const advantages = groupAdvantages(rewards, this.#policy.scaleRewards)
    const rows = groups.flatMap((group, prompt) =>
      group.map(({ tokens, weights }, answer) => [
        { tokens, weights, advantages: advantages[prompt]?.[answer] as number },
      ]),
    )
    const { perDeviceTrainBatchSize, maxSeqLength } = this.#setup.options
    const made = inMicroBatches(rows, perDeviceTrainBatchSize * maxSeqLength)
    this.#made = new Map(made.map((one) => [{ ...one.batch, nSupervised: one.places.length }, one]))
    const batches = [...this.#made.keys()]
    const total = (of: (batch: MicroBatch) => number) => batches.reduce((sum, batch) => sum + of(batch), 0)
    return {
      ...window,
      batches,
      tokens: total(({ tokens }) => tokens.length),
      supervised: total(({ nSupervised }) => nSupervised),
    }
  }

  window(): WorkOf {
    const per = this.#counts()
    const { options } = this.#setup
    const loss = taskRules(options.task).loss?.({ ...options }) as NamedLoss
    return (batch) => {
      const made = this.#made.get(batch) as RowBatch
      // The policy that answered is the one that is trained, so all ratios are 1 and the gradient is known beforehand.
      const unscored = scoredRows(made, new Float32Array(made.places.length))
      const { loss: value, gradient } = lossOf(loss, unscored, per)
      const ofScored = (logProbs: Float32Array) => ({
        loss: logProbs.every(Number.isFinite) ? value : Number.NaN,
      })
      return { batch, head: { kind: 'weighted', weights: headWeights(made, gradient, 1), value: ofScored } }
    }
  }

  evaluate(session: NativeSession, source: BatchSource, control: EvaluateControl): Promise<Evaluation> {
    return evaluateBatches(session, EVAL_PLAN, source, control)
  }

  named(): Partial<Evaluation> {
    return this.#measured
  }

  async #sample(session: NativeSession, questions: readonly Question[], step: number): Promise<Sample[][]> {
    const { base, plans, onProgress } = this.#sampling
    const { adapter, options, signal } = this.#setup
    const { numGenerations, maxCompletionLength } = this.#policy
    const tokenizer = await base.tokenizer()
    const ends = await endIds(tokenizer, adapter.format)
    const decoder = Decoder.on(base, session, ANSWER_PLAN, plans[ANSWER_PLAN] as PlanOptions)
    const how = { ...generateSchema.parse({}), temperature: 1 }
    const groups: Sample[][] = []
    const totalAnswers = questions.length * numGenerations
    let answers = 0
    for (const [index, { prompt }] of questions.entries()) {
      const limit = Math.min(maxCompletionLength, options.maxSeqLength - prompt.length)
      const group: Sample[] = []
      for (let answer = 0; answer < numGenerations; answer++) {
        const own = { ...how, seed: drawBelow(SEEDS, options.seed, step, index, answer) }
        group.push(await drawAnswer(decoder, tokenizer, prompt, ends, limit, own, signal))
        onProgress?.({ answers: ++answers, totalAnswers })
      }
      groups.push(group)
    }
    return groups
  }

  /** The reward of each answer by each function. */
  async #score(
    questions: readonly Question[],
    items: readonly RewardedAnswer['item'][],
    groups: readonly (readonly Sample[])[],
  ): Promise<number[][][]> {
    const tokenizer = await this.#sampling.base.tokenizer()
    const answers: RewardedAnswer[] = []
    for (const [index, { prompt, answer }] of questions.entries()) {
      const row = {
        ...{ prompt: await textOf(tokenizer, prompt), expected: await textOf(tokenizer, answer) },
        item: items[index] ?? {},
      }
      for (const { text } of groups[index] as readonly Sample[]) answers.push({ ...row, prediction: text })
    }
    const scored = await rewardsOf(this.#rewards, answers, this.#setup.signal)
    const { numGenerations: size } = this.#policy
    return questions.map((_, index) => scored.slice(index * size, (index + 1) * size))
  }

  #measure(
    groups: readonly (readonly Sample[])[],
    scored: readonly (readonly number[][])[],
    rewards: readonly (readonly number[])[],
  ): void {
    const answers = groups.flat()
    const uniform = rewards.filter(isUniform).length / rewards.length
    this.#measured = {
      reward: mean(rewards.flat()),
      rewardStd: standardDeviation(rewards.flat()),
      fracRewardZeroStd: uniform,
      rewards: Object.fromEntries(
        this.#rewards.map(({ name }, at) => [name, mean(scored.flat().map((each) => each[at] as number))]),
      ),
      completionsMeanLength: mean(answers.map(weightOf)),
      completionsClippedRatio: mean(answers.map(({ finishReason }) => Number(finishReason === 'length'))),
    }
    if (uniform < 1 || this.#warned) return
    this.#warned = true
    this.#sampling.base.warn(
      `all answers to each prompt of a step have the same reward, ${rangeOf(rewards.flat())}, so nothing is learned from them. If this goes on, train on right answers first (task: causal_lm), or reward parts of an answer too.`,
    )
  }

  #counts(): Denominators {
    const rows = [...this.#made.values()].flatMap((made) => made.rows)
    const { lossType, maxCompletionLength } = this.#policy
    const tokens =
      lossType === 'dr_grpo'
        ? rows.length * maxCompletionLength
        : rows.reduce((sum, row) => sum + weightOf(row), 0)
    return { tokens, rows: rows.length, pairs: rows.length }
  }
}

/** The value that numbers have, or the least and the largest. */
function rangeOf(numbers: readonly number[]): string {
  const [least, most] = [Math.min(...numbers), Math.max(...numbers)].map((one) => Number(one.toPrecision(4)))
  return least === most ? `${least}` : `from ${least} to ${most} by prompt`
}
