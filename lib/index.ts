/** The public interface of lowrank. */

export type { Saved } from './base/base.js'
export type { CompareTask } from './compare/cells.js'
export { compare } from './compare/compare.js'
export type { OwnEntry } from './compare/entries.js'
export type { Margin } from './compare/margin.js'
export type { CompareEvent, CompareOptions } from './compare/options.js'
export type { CompareCell, CompareEntry, CompareResults, Equality } from './compare/results.js'
export { readResults } from './compare/results-file.js'
export { type Verification, type VerifiedCell, type VerifyOptions, verifyCompare } from './compare/verify.js'
export { formatBytes } from './core/bytes.js'
export * from './core/errors.js'
export type { Columns } from './data/dataset/columns.js'
export type { EncodeProgress } from './data/encode-dataset.js'
export type { DatasetStats } from './data/encoded-dataset.js'
export type { TrainOn } from './data/encoded-row.js'
export type { DatasetFormat } from './data/forms/index.js'
export type { LabelCount } from './data/labels.js'
export type { Tools } from './data/prompt-tools.js'
export type { RowSource } from './data/row-source.js'
export type { FoundCharacter, MisspelledKey } from './data/row-survey.js'
export type { Drift } from './export/drift.js'
export type { ExportOptions, SaveOptions, Survival, WriteProgress, Written } from './export/options.js'
export {
  noiseMultiplierFor,
  type PrivacyOptions,
  type PrivacySpent,
  privacySpent,
  stepsWithin,
} from './federated/accountant.js'
export type { PromptFormat } from './formats/prompt-format.js'
export type { DownloadProgress } from './hub/locate.js'
export type { HubOptions } from './hub/options.js'
export type { ScaleRewards } from './losses/advantages.js'
export type { NllOn } from './losses/orpo.js'
export type { Numbers, Pair, Row } from './losses/token-rows.js'
export type * from './losses/types.js'
export type { Adapter, TrainControl } from './model/adapter.js'
export type { Chat, ChatAnswer, ChatOptions } from './model/chat.js'
export type { EncodedRows, WindowOptions } from './model/encoded-rows.js'
export { type LoadOptions, loadModel } from './model/load.js'
export type { Model } from './model/model.js'
export type {
  AdapterChoice,
  AttachOptions,
  ClassifyOptions,
  EncodeRowsOptions,
  EvaluateOptions,
  ExactMatchOptions,
  LoadAdapterOptions,
  ProbeOptions,
  SampleOptions,
  TextOptions,
} from './model/options.js'
export type {
  ChatTemplateOptions,
  ChatTokens,
  EncodeChatOptions,
  ModelTokenizer,
  TokenizerInfo,
} from './model/tokenizer.js'
export type { CardSizes, Category, Device, Phase, PlanMoment, PlanRow, Precision } from './native/addon.js'
export type { DeviceOption } from './native/device.js'
export {
  adafactor,
  adamW,
  adamW8bit,
  lion,
  lion8bit,
  pagedAdamW,
  pagedAdamW8bit,
  sgd,
} from './options/optimizers.js'
export type { RunOptions } from './options/options.js'
export { cosine, warmupStableDecay } from './options/schedules.js'
export type { ClassWeights, LossType } from './options/task.js'
export type * from './options/types.js'
export { MemoryReport } from './planning/memory-report.js'
export { type PlanModelOptions, planModel } from './planning/plan.js'
export type * from './strategies/configs.js'
export { listStrategies, type StrategyEntry, strategyFrom } from './strategies/index.js'
export type { DrawnStart } from './strategies/lora.js'
export type { LycorisConfig } from './strategies/lycoris.js'
export * from './strategies/makers.js'
export type { PrivacyReport, RoundPrivacy } from './strategies/privacy-report.js'
export type { Task } from './tasks/index.js'
export type { CustomMetric, Metric, ScoredRow } from './tasks/metrics.js'
export type { RewardedAnswer, RewardFunction, Rewards } from './tasks/rewards.js'
export type { ChatMessage, Role } from './tokenizer/message.js'
export type { Classified } from './train/answers/classify.js'
export type { GenerateControl, GenerateOptions, Generation, Prompt } from './train/answers/generate.js'
export type { Sample, SamplingOptions } from './train/answers/sampled-answers.js'
export type { ClassifiedRow, RunSample, Samples } from './train/answers/samples.js'
export type { Answer } from './train/answers/score.js'
export type { Damaged } from './train/checkpoints/checkpoint-folder.js'
export { type ConfigControl, loadConfig, type RunConfig } from './train/config/config.js'
export { readLabels } from './train/config/labels.js'
export type { PromptProgress } from './train/decoding/decoder.js'
export type { ExactMatch } from './train/measures/exact-match.js'
export { scoresByClass } from './train/measures/scores-by-class.js'
export type { AnswerF1 } from './train/measures/word-f1.js'
export type { SampleProgress } from './train/objectives/policy.js'
export type { HeldOutShare } from './train/rows/held-out.js'
export type { PromptOptions } from './train/rows/prompting.js'
export type { AskOptions, RunAnswer } from './train/run/control.js'
export type {
  ForwardBackward,
  ForwardBackwardOptions,
  FunctionLoss,
  Loss,
  LossFunction,
  LossRow,
  OptimStepOptions,
  TrainBatch,
} from './train/run/forward-backward-options.js'
export type { TrainingRun } from './train/run/run.js'
export type { RunResult } from './train/run/run-result.js'
export type { Resumed } from './train/run/run-start.js'
export type { KnownTime, RunTime } from './train/run/run-time.js'
export {
  type DatasetArgument,
  type DatasetConfig,
  type DatasetOptions,
  dataset,
} from './train/sources/data-sources.js'
export type { BestReport, RunEvaluation } from './train/steps/best.js'
export type { ClassMetrics, ClassScores, ConfusionMatrix } from './train/steps/class-metrics.js'
export type { EvaluateProgress, Evaluation } from './train/steps/evaluate.js'
export type {
  AnswersEvent,
  CheckpointEvent,
  DoneEvent,
  EvalEvent,
  MemoryEvent,
  PausedEvent,
  PlanEvent,
  RanksEvent,
  RateEvent,
  RateSearch,
  ResumedEvent,
  RunDataFacts,
  StartEvent,
  StepAnswer,
  StoppedEvent,
  TrainEvent,
  TrainStep,
} from './train/steps/events.js'
export type { PrecisionOption } from './weights/options.js'
export {
  type FourBitQuantization,
  fp4,
  type Int8Quantization,
  int8,
  type KeptQuantization,
  keep,
  nf4,
  type Quantization,
} from './weights/quantization.js'
export type { LoadProgress } from './weights/weights.js'
