/** Options of a training run. Written by `node scripts/options.mjs`. */
import type { CustomMetric, Metric } from '../tasks/metrics.js'
import type { Rewards } from '../tasks/rewards.js'

/**
 * Settings of AdamW, with the arithmetic of torch.optim.AdamW. `adamw_8bit` stores both moments as block-wise 8-bit
 * numbers, except for tensors with fewer than 4096 elements.
 */
export interface AdamW {
  readonly type: 'adamw' | 'adamw_8bit'
  /** Decay rates of the two moments. Default [0.9, 0.999]. */
  readonly betas: readonly [number, number]
  /** Added to the denominator. Default 1e-8. */
  readonly eps: number
  /** Overrides the run's `weightDecay`. Default null. */
  readonly weightDecay: number | null
}

/** Settings of AdamW whose moments are paged to disk beyond a memory budget. The results equal AdamW's. */
export interface PagedAdamW {
  readonly type: 'paged_adamw' | 'paged_adamw_8bit'
  /** Decay rates of the two moments. Default [0.9, 0.999]. */
  readonly betas: readonly [number, number]
  /** Added to the denominator. Default 1e-8. */
  readonly eps: number
  /** Overrides the run's `weightDecay`. Default null. */
  readonly weightDecay: number | null
  /** Memory for the moments, including the page cache; the rest is on disk. Default `256MiB`. */
  readonly resident: number | string
}

/**
 * Settings of Lion, whose updates are the sign of the momentum times the learning rate. `lion_8bit` stores the momentum
 * as block-wise 8-bit numbers, except for tensors with fewer than 4096 elements.
 */
export interface Lion {
  readonly type: 'lion' | 'lion_8bit'
  /** Weight of the moment in a step, and its decay rate. Default [0.9, 0.99]. */
  readonly betas: readonly [number, number]
  /** Overrides the run's `weightDecay`. Default null. */
  readonly weightDecay: number | null
}

/** Settings of Adafactor without momentum, with the arithmetic of transformers' Adafactor. */
export interface Adafactor {
  readonly type: 'adafactor'
  /** Added to squared gradients, and the minimum parameter scale for `scaleParameter`. Default [1e-30, 0.001]. */
  readonly eps: readonly [number, number]
  /** Root mean square to which an update is clipped. Default 1. */
  readonly clipThreshold: number
  /** Step t keeps `1 - t^decayRate` of the running squares. Default -0.8. */
  readonly decayRate: number
  /** Multiply the learning rate by the root mean square of the parameter. Default false. */
  readonly scaleParameter: boolean
  /** Overrides the run's `weightDecay`. Default null. */
  readonly weightDecay: number | null
}

/** Settings of stochastic gradient descent, with the arithmetic of torch.optim.SGD. */
export interface Sgd {
  readonly type: 'sgd'
  /** Momentum: share of the previous step that is added to the next one. Default 0. */
  readonly momentum: number
  /** Overrides the run's `weightDecay`. Default null. */
  readonly weightDecay: number | null
}

/** Half a cosine from the peak rate down. */
export interface CosineSchedule {
  readonly type: 'cosine'
  /** Final learning rate as a share of the peak. Default 0. */
  readonly minLrRate: number
}

/** Warm-up, a constant rate, and a decay at the end. */
export interface WarmupStableDecaySchedule {
  readonly type: 'warmup_stable_decay'
  /** Steps of the decay at the end. */
  readonly numDecaySteps: number
  /** Shape of the decay. Default `cosine`. */
  readonly decayType: 'cosine' | 'linear' | '1-sqrt'
  /** Learning rate at the start and the end, as a share of the peak. Default 0. */
  readonly minLrRatio: number
}

/** An optimizer with its settings. */
export type Optimizer = AdamW | PagedAdamW | Lion | Adafactor | Sgd

/** A schedule with its settings. */
export type Schedule =
  | { readonly type: 'constant' }
  | { readonly type: 'constant_with_warmup' }
  | { readonly type: 'linear' }
  | CosineSchedule
  | WarmupStableDecaySchedule

/** Memory options of training. */
export interface TrainingMemory {
  /** Optimizer, by name or with settings. `null`: `adamw`, or `paged_adamw` with `qlora` if memory is short. */
  readonly optimizer:
    | 'adamw'
    | 'adamw_8bit'
    | 'paged_adamw'
    | 'paged_adamw_8bit'
    | 'lion'
    | 'lion_8bit'
    | 'adafactor'
    | 'sgd'
    | Optimizer
    | null
  /**
   * Update each tensor in the backward pass as soon as its gradient is complete, so gradients are never all in memory.
   * The results are the same. Requires `gradientAccumulationSteps: 1` and `maxGradNorm: 0`. Default false.
   */
  readonly optimizerInBackward: boolean
  /**
   * Recompute the inside of each block in the backward pass instead of keeping it. Less memory, about one more forward
   * pass, the same results. Default true.
   */
  readonly gradientCheckpointing: boolean
  /**
   * With `gradientCheckpointing`: keep the inputs of the blocks in a file in the output folder until the backward pass
   * needs them. The same results. Default false.
   */
  readonly activationOffloading: boolean
  /**
   * With `gradientCheckpointing`: keep the output of attention, so it is not recomputed. More memory, less time for
   * long sequences, the same results. Default false.
   */
  readonly keepAttention: boolean
  /**
   * Memory for the logits that the loss computes at a time, at least those of 16 tokens. With a large vocabulary, a
   * smaller value lowers the peak and slows down steps. `auto`: 48 MiB on the CPU, 256 MiB on a GPU. Default `auto`.
   */
  readonly logitsMemory: string
}

/** Options that determine a run's memory use. */
export interface MemoryShape extends TrainingMemory {
  /**
   * Keep the frozen weights in a file, with at most this much of them in memory; on a GPU, keep them in pinned memory
   * of the host, with at most this much of them on the GPU. `true` chooses a size. Default false.
   */
  readonly pagedWeights: boolean | string
}

/** Options of the task. */
export interface TaskOptions {
  /**
   * Task of the run. `causal_lm`: predict the next token. `classification`: predict the class of a text. `dpo`, `orpo`:
   * prefer the chosen of two answers. `grpo`: learn from rewards of sampled answers. `kto`: learn from good and bad
   * answers. Default `causal_lm`.
   */
  readonly task: 'causal_lm' | 'classification' | 'dpo' | 'grpo' | 'kto' | 'orpo'
  /**
   * `causal_lm`: measure, in every step and evaluation, the share of supervised tokens that are the likeliest ones
   * after the tokens before them (`meanTokenAccuracy`); private rounds measure it in evaluations only. Default: false.
   */
  readonly tokenAccuracy: boolean | null
  /**
   * `classification`: how much a row of each class counts in the loss, by the name of the class; `balanced` counts rows
   * of rare classes more. Default: all alike.
   */
  readonly classWeights: 'balanced' | Readonly<Record<string, number>> | null
  /**
   * `dpo`, `kto`: strength of the pull toward the reference. Default: 0.1. `orpo`: weight of the odds ratio, the
   * paper's lambda. Default: 0.1.
   */
  readonly beta: number | null
  /**
   * `dpo`: the logistic loss (`sigmoid`), or `ipo`, which averages over tokens and bounds the margin. Default:
   * `sigmoid`. `grpo`: the mean over all tokens of a step (`dapo`), over the tokens of each answer and then over
   * answers (`grpo`), or the sum over tokens divided by the number of answers times `maxCompletionLength` (`dr_grpo`).
   * Default: `dapo`.
   */
  readonly lossType: 'sigmoid' | 'ipo' | 'dapo' | 'grpo' | 'dr_grpo' | null
  /** `dpo`: with the logistic loss, the probability that a preference is the wrong way round. Default: 0. */
  readonly labelSmoothing: number | null
  /** `grpo`: functions that score answers, or modules that export them; required. Default null. */
  readonly rewardFunctions: Rewards | null
  /** `grpo`: answers sampled per prompt. Default: 8. */
  readonly numGenerations: number | null
  /** `grpo`: most tokens in an answer. Default: as many as `maxSeqLength` leaves after the prompt. */
  readonly maxCompletionLength: number | null
  /**
   * `grpo`: what the difference of a reward from the mean of its group is divided by: the standard deviation of the
   * `group`, that of all rewards of the step (`batch`), or nothing. Default: `group`.
   */
  readonly scaleRewards: 'group' | 'batch' | 'none' | null
  /** `kto`: weight of good answers in the loss. Default: 1. */
  readonly desirableWeight: number | null
  /** `kto`: weight of bad answers in the loss. Default: 1. */
  readonly undesirableWeight: number | null
  /**
   * `orpo`: tokens of the chosen rows that the negative log-likelihood is a mean over: prompts and answers (`all`), as
   * in the code of the paper and in TRL, or answers alone (`completions`). Default: `all`.
   */
  readonly nllOn: 'all' | 'completions' | null
}

/** Options of a training run. */
export interface TrainOptions extends TrainingMemory, TaskOptions {
  /** Peak learning rate. `null`: the default of the strategy, listed by `lowrank strategies`. */
  readonly learningRate: number | null
  /** Decoupled weight decay of all trained parameters. Default 0. */
  readonly weightDecay: number
  /** Learning-rate schedule, by name or with settings. Default `cosine`. */
  readonly lrSchedulerType: 'constant' | 'constant_with_warmup' | 'linear' | 'cosine' | Schedule
  /** Warm-up as a share of all steps. Default 0.03. */
  readonly warmupRatio: number
  /** Warm-up in steps; overrides `warmupRatio`. Default null. */
  readonly warmupSteps: number | null
  /** Passes over the data; may be fractional. Default 3. */
  readonly numTrainEpochs: number
  /** Number of optimizer steps; overrides `numTrainEpochs`. Default null. */
  readonly maxSteps: number | null
  /** Rows of `maxSeqLength` tokens per micro-batch. Default 4. */
  readonly perDeviceTrainBatchSize: number
  /** Micro-batches per optimizer step. Default 1. */
  readonly gradientAccumulationSteps: number
  /** Maximum tokens of a row; longer rows are truncated. Default 512. */
  readonly maxSeqLength: number
  /** Fill a micro-batch with as many rows as fit, instead of `perDeviceTrainBatchSize` rows. Default true. */
  readonly packing: boolean
  /**
   * Tokens to train on: completions and all assistant turns, only the last assistant turn, or all tokens. Default
   * `completions`.
   */
  readonly trainOn: 'completions' | 'last' | 'all'
  /**
   * Render rows of `prompt` and `completion`, and Alpaca rows, with the chat template of the model, if it has one.
   * `false` trains on raw text. The path of a `.jinja` file renders all chats with that template instead. Default true.
   */
  readonly chatTemplate: boolean | string
  /**
   * `auto` renders chats with a template of lowrank where one equals the model's own on single answers; `own` always
   * uses the model's. Default `auto`.
   */
  readonly trainingTemplate: 'auto' | 'own'
  /**
   * `keep` trains a chat as one example, with the reasoning that its template renders; `drop` makes an example of every
   * answer, in which earlier turns have no reasoning, as in use. Default `keep`.
   */
  readonly reasoningHistory: 'keep' | 'drop'
  /** Train on the reasoning of assistant turns. Default true. */
  readonly trainOnReasoning: boolean
  /**
   * Train on the empty `<think>` block of answers without reasoning, instead of taking it as part of the prompt.
   * Default false.
   */
  readonly trainEmptyThink: boolean
  /**
   * Share of every label that goes to the whole vocabulary alike. Evaluations report the loss without it. Default 0.
   */
  readonly labelSmoothingFactor: number
  /**
   * Noise on the embeddings in training (NEFTune), uniform within `alpha / sqrt(L d)` for a row of `L` tokens and a
   * model of width `d`; 5 is usual. Default null.
   */
  readonly neftuneNoiseAlpha: number | null
  /** L2 norm to which gradients are clipped. 0 is off. Default 1. */
  readonly maxGradNorm: number
  /** Steps between evaluations of held-out data. Default: only at the start and at the end. */
  readonly evalSteps: number | null
  /** Held-out rows that each evaluation also answers, by greedy generation of at most 64 tokens. Default 0. */
  readonly evalGenerate: number
  /**
   * Keep the adapter of the best evaluation instead of the last step. Its checkpoint is saved regardless of
   * `saveSteps`. Requires `evalSteps`. Default false.
   */
  readonly loadBestModelAtEnd: boolean
  /**
   * Metric that evaluations are compared by: its name, or with tasks `causal_lm` and `grpo` a function that scores each
   * held-out answer. Default `loss`.
   */
  readonly metricForBestModel: Metric | CustomMetric
  /** Implied by the metric. A value that contradicts it is an error. Default null. */
  readonly greaterIsBetter: boolean | null
  /** End the run after this many consecutive evaluations without improvement. Requires `evalSteps`. Default null. */
  readonly earlyStoppingPatience: number | null
  /** Minimum improvement that counts for `earlyStoppingPatience`. Default 0. */
  readonly earlyStoppingThreshold: number
  /** Steps between checkpoints. Default: only when the run is interrupted. */
  readonly saveSteps: number | null
  /** Maximum number of checkpoints to keep: the newest, and with `loadBestModelAtEnd` the best. Default null. */
  readonly saveTotalLimit: number | null
  /** Seed of the data order, dropout, the held-out split, and the initial values of the adapter. Default 42. */
  readonly seed: number
}
