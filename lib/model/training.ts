/** Runs of an adapter: the options of `Adapter.train`, what must hold between them, and the run that they make. */

import * as z from 'zod'
import type { BaseModel } from '../base/base.js'
import { callback, checkedOptions, path } from '../core/arguments.js'
import { ConfigError } from '../core/errors.js'
import { flag, integer, text, word } from '../core/schema.js'
import type { EncodeProgress } from '../data/encode-dataset.js'
import { clientColumn } from '../federated/clients.js'
import { privateRounds } from '../federated/rounds.js'
import type { PlanOptions } from '../native/addon.js'
import { cardOf } from '../native/device.js'
import { translated } from '../native/errors.js'
import { checkInBackward } from '../options/in-backward.js'
import { optimizerState } from '../options/optimizers.js'
import { trainShape } from '../options/options.js'
import { withOwnRate } from '../options/rates.js'
import { checkTask } from '../options/task.js'
import type { Optimizer, TrainOptions } from '../options/types.js'
import { ownBytes } from '../planning/cards.js'
import { MemoryReport } from '../planning/memory-report.js'
import { trainingPlans } from '../planning/plans.js'
import { usualOptimizer } from '../planning/usual-optimizer.js'
import { isPrivate, rulesOf } from '../strategies/index.js'
import type { StrategyConfig } from '../strategies/strategy.js'
import { taskRules, tasksWhere } from '../tasks/index.js'
import { checkEvalGenerate } from '../train/answers/samples.js'
import { foldersOf, scratchFolder } from '../train/folders/output-folder.js'
import { policySteps, type SampleProgress } from '../train/objectives/policy.js'
import { presentRanks } from '../train/processes/processes.js'
import { REPORT_TO, type ReportTo } from '../train/records/tensorboard.js'
import type { prepareData } from '../train/rows/data.js'
import { TrainingRun } from '../train/run/run.js'
import {
  checkStreaming,
  checkTaskData,
  type DataSources,
  type DatasetArgument,
  dataShape,
  datasetOf,
} from '../train/sources/data-sources.js'
import { checkBest } from '../train/steps/best.js'
import type { EvaluateProgress } from '../train/steps/evaluate.js'
import type { RateSearch } from '../train/steps/events.js'
import type { StepSetup } from '../train/steps/step.js'

/** Options of `Adapter.train` beyond the hyperparameters in `TrainOptions`. */
export interface TrainControl {
  /** Data to evaluate on: before the first step, every `evalSteps`, and at the end. */
  evalDataset?: DatasetArgument | null
  /** Fraction of the training data to hold out instead of passing `evalDataset`, in [0, 1). Default 0. */
  evalFraction?: number
  /**
   * Folder for the adapter, metrics.jsonl, and checkpoints; without one, nothing is written. For private runs it
   * receives only the adapter, and everything else goes to a sibling folder, `<outputDir>-secret`.
   */
  outputDir?: string | null
  /**
   * Overwrite the result of an earlier run in `outputDir`, and train even if the plan needs far more than the memory that
   * is free. Default false: both are errors.
   */
  force?: boolean
  /** Checkpoint to resume from: its path, or true for the newest in `outputDir`. Default false. */
  resume?: string | boolean
  /** Stops the run after the current step, saving a checkpoint if there is an `outputDir`. */
  signal?: AbortSignal
  /**
   * Number of rows for which `TrainingRun.samples` generates answers after the run; private runs never sample. Default
   * 0.
   */
  sampleRows?: number
  /** Write the report of the run, report.html, to `outputDir` when the run ends, even if it failed. Default true. */
  report?: boolean
  /** Also log events for TensorBoard, to `runs/` in `outputDir`. Default `none`. */
  reportTo?: ReportTo
  /** Command line that reproduces the run, stored in its record and report. Default null. */
  command?: string | null
  /** Called as the data is read. */
  onDataProgress?: (progress: EncodeProgress) => void
  /** Called after every batch of an evaluation. */
  onEvalProgress?: (progress: EvaluateProgress) => void
  /** Called after every answer that a step of task `grpo` samples. */
  onSampleProgress?: (progress: SampleProgress) => void
}

const RESUME = "true, false or a checkpoint's path"
const controlShape = {
  outputDir: path('a folder').nullable().default(null),
  force: flag().default(false),
  resume: z.union([z.boolean(), path()], { error: RESUME }).default(false),
  sampleRows: integer(0).default(0),
  report: flag().default(true),
  reportTo: word(REPORT_TO).default('none'),
  command: text().nullable().default(null),
  onEvalProgress: callback<NonNullable<TrainControl['onEvalProgress']>>().optional(),
  onSampleProgress: callback<NonNullable<TrainControl['onSampleProgress']>>().optional(),
}
const trainingSchema = z.strictObject({ ...trainShape, ...dataShape, ...controlShape })

const SOURCE = { name: 'train()', spelling: 'camel' } as const

/** An adapter as a run needs it. */
type Trained = Pick<ConstructorParameters<typeof TrainingRun>[0], 'base' | 'adapter' | 'use' | 'begin'> & {
  strategy: StrategyConfig
}

/** Parts of a run that a caller may pass instead of those made here: schedule, ranks, and search of the learning rate. */
export type RunExtras = Partial<Pick<StepSetup, 'schedule' | 'ranks'> & { rateSearch: RateSearch }>

/** @throws {ConfigError} for an unknown option, or options that do not go together */
export function trainingRun(
  run: Trained,
  data: DatasetArgument,
  options: Partial<TrainOptions> & TrainControl,
  prepare: typeof prepareData,
  more: RunExtras,
): TrainingRun {
  const { base, adapter, strategy, use, begin } = run
  if (!adapter.trainable)
    throw new ConfigError(
      'train(): the adapter was loaded for inference; load it with { trainable: true } to train it.',
    )
  const given = checkedOptions(trainingSchema, options, 'train()')
  const {
    evalDataset,
    evalFraction,
    outputDir,
    resume,
    force,
    sampleRows,
    report,
    reportTo,
    command,
    ...rest
  } = given
  const { signal, onDataProgress: onProgress, onEvalProgress, onSampleProgress, ...own } = rest
  const rated = withOwnRate(own, strategy)
  const { rows, samplesAnswers } = taskRules(rated.task)
  const parsed = rows.counted ? { ...rated, packing: false } : rated
  if (evalDataset != null && evalFraction > 0)
    throw new ConfigError('train(): evalFraction and evalDataset were both given; expected at most one.')
  if (reportTo !== 'none' && outputDir === null)
    throw new ConfigError(`train(): reportTo is ${reportTo}, but the run has no outputDir to write to.`)
  const sources = {
    dataset: datasetOf(data, 'train()'),
    evalDataset: evalDataset == null ? null : datasetOf(evalDataset, 'train()', 'evalDataset'),
    evalFraction,
    ...groupedBy(strategy),
  }
  checkStreaming(sources, parsed, SOURCE)
  checkInBackward(parsed, strategy, SOURCE)
  checkTask(parsed, SOURCE)
  checkTaskData({ ...sources, task: parsed.task, strategy }, SOURCE)
  checkHead(base, parsed)
  const shape = { ...sources, strategy, outputDir }
  checkBest(parsed, shape, SOURCE)
  checkEvalGenerate(parsed, shape, SOURCE)
  const evaluates = sources.evalDataset !== null || evalFraction > 0
  const plans = trainingPlans(adapter.description.spec, parsed, base, evaluates)
  const folders = outputDir === null ? null : foldersOf(outputDir, strategy)
  const optimizer = parsed.optimizer ?? optimizerFor(run, parsed, plans, scratchFolder(folders))
  // Rows of a private run belong to its clients and must not leak into samples.
  const control = {
    sampleRows: isPrivate(strategy) ? 0 : sampleRows,
    signal,
    onProgress,
  }
  const privacy = rulesOf(strategy).privacy?.(strategy)
  return new TrainingRun({
    ...{ ranks: presentRanks(), ...more },
    ...(privacy ? { makeSteps: privateRounds(privacy) } : {}),
    ...(samplesAnswers ? { makeSteps: policySteps({ base, plans, onProgress: onSampleProgress }) } : {}),
    base,
    adapter,
    options: { ...parsed, optimizer },
    plans,
    data: (now) => prepare(base, sources, parsed, now === undefined ? control : { ...control, now }),
    evalFraction,
    sources,
    command,
    reportTo,
    ...(report ? { report: async (of) => (await import('../report/report.js')).writeReport(of) } : {}),
    folders,
    beginning: { resume, force },
    signal,
    onEvalProgress,
    use,
    begin,
  })
}

/** @throws {ConfigError} when the task does not match the head of the model */
function checkHead({ labels, name }: BaseModel, { task }: TrainOptions): void {
  if (taskRules(task).classes === (labels !== null)) return
  throw new ConfigError(
    labels === null
      ? `train(): task ${task} needs a head for classes; load ${name} with labels: loadModel(name, { labels }).`
      : `train(): ${name} was loaded with labels, so its head is for task ${tasksWhere(({ classes }) => classes).join(' or ')}, not ${task}; load it without labels.`,
    { task, labels },
  )
}

function optimizerFor(
  { base: { native, device }, adapter, strategy }: Trained,
  options: TrainOptions,
  plans: Record<string, PlanOptions>,
  folder: string,
) {
  const planned = (optimizer: Optimizer) => {
    const state = optimizerState({ ...options, optimizer }, strategy)
    return new MemoryReport(translated(() => native.plan([{ adapter: adapter.native, state }], plans)))
  }
  // The base model is already loaded, so its memory counts as available.
  const { peakBytes: loaded } = translated(() => native.plan([], {}))
  const card = cardOf(device)
  const available = card ? Math.max(0, card.memoryBytes - ownBytes(card)) : process.availableMemory() + loaded
  return usualOptimizer(strategy, planned, available, folder)
}

/** The column that identifies each row's client, if the strategy has clients. Private runs hold out whole clients. */
export function groupedBy(strategy: StrategyConfig): Pick<DataSources, 'groupBy' | 'holdOutGroups'> {
  const clients = rulesOf(strategy).privacy?.(strategy)?.clients ?? null
  const groupBy = clientColumn(clients)
  return groupBy === undefined ? {} : { groupBy, holdOutGroups: clients?.partition === null }
}
