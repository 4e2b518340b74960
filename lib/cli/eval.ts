/** `lowrank eval`: measures a model on a dataset, with or without an adapter: loss, exact match, token accuracy, or F1. */
import { type Command, Option } from 'commander'
import { DATASET_FORMATS, type DatasetFormat } from '../data/dataset.js'
import { REASONING_HISTORY, type ReasoningHistory, TRAIN_ON, type TrainOn } from '../data/encoded-row.js'
import { groupedBy } from '../model/adapter.js'
import type { Model } from '../model/model.js'
import type { EvaluateOptions } from '../model/options.js'
import { taskRules } from '../tasks/index.js'
import type { RunConfig } from '../train/config/config.js'
import { checkData } from '../train/config/preflight.js'
import { refuseLayers } from '../train/config/split.js'
import type { Processes } from '../train/processes/processes.js'
import type { HeldOutShare } from '../train/rows/held-out.js'
import { type DatasetConfig, dataset } from '../train/sources/data-sources.js'
import { classScores } from '../train/steps/class-metrics.js'
import { InterruptedError, UsageError } from './errors.js'
import { facts, formatCount, table } from './format.js'
import { encodingFlag, examples, integerFlag, withEncodingFlag } from './help.js'
import { Interruption, STOPPED } from './interrupt.js'
import { type Output, printable } from './output.js'
import { shown } from './progress.js'
import { amongRanks, noteRanks } from './ranks.js'
import type { Printed } from './schemas.js'
import {
  chatTemplateOf,
  dataLike,
  type FormatFlags,
  formatFlags,
  readSubject,
  type SubjectOptions,
  subjectFlags,
  withSubject,
} from './subject.js'

const METRICS = ['loss', 'exact_match', 'mean_token_accuracy', 'f1'] as const
type Metric = (typeof METRICS)[number]

interface Options extends SubjectOptions, FormatFlags {
  dataset?: string
  metric: Metric
  format?: DatasetFormat | 'auto'
  encoding?: string
  maxSeqLength?: number
  perDeviceTrainBatchSize?: number
  trainOn?: TrainOn
  reasoningHistory?: ReasoningHistory
  json?: boolean
}

export function configure(command: Command): void {
  subjectFlags(command)
  command.option(
    '--dataset <path>',
    'data to evaluate on (default with a config: the eval_dataset of the run, or the rows held out by eval_fraction)',
  )
  command.addOption(
    new Option('--format <form>', 'format of the dataset (default: as in the config)').choices([
      'auto',
      ...DATASET_FORMATS,
    ]),
  )
  command.option(
    '--encoding <name>',
    'encoding of the dataset, such as windows-1252 (default: as in the config)',
    encodingFlag,
  )
  command.addOption(
    new Option(
      '--metric <name>',
      'loss; exact_match, the share of rows answered word for word; mean_token_accuracy, the share of supervised tokens predicted correctly; or f1, the words that generated answers share with those of the data; of a classifier always loss, accuracy, F1, and correlation',
    )
      .choices(METRICS)
      .default('loss'),
  )
  command.option('--max-seq-length <N>', 'truncate rows to this many tokens', integerFlag(2))
  command.option('--batch, --per-device-train-batch-size <N>', 'sequences per batch', integerFlag(1))
  command.addOption(new Option('--train-on <what>', 'tokens that count').choices(TRAIN_ON))
  command.addOption(
    new Option('--reasoning-history <what>', 'drop counts every answer of a chat as an example').choices(
      REASONING_HISTORY,
    ),
  )
  formatFlags(command, 'rows of prompt and completion')
  examples(command, [
    'lowrank eval --model models/SmolLM2-135M-Instruct --adapter out --dataset dev.jsonl',
    'lowrank eval run.yaml',
    'lowrank eval run.yaml --metric exact_match --no-adapter',
  ])
  command.action(async (path: string | undefined, options: Options) => {
    await amongRanks('lowrank eval', options.json ?? false, (ranks, output) =>
      evaluated(path, options, ranks, output),
    )
  })
}

async function evaluated(
  path: string | undefined,
  options: Options,
  ranks: Processes,
  output: Output,
): Promise<void> {
  const config = await readSubject(path, options, output)
  if (!ranks.isAlone && config !== undefined) refuseLayers('lowrank eval', config)
  const { data, heldOut } = subjectData(config, options)
  const asked = chatTemplateOf(options)
  const interruption = new Interruption(output, 'Stopping.')
  const { signal } = interruption
  try {
    await checkData(data)
    noteRanks(ranks, 'Evaluating', output)
    await withSubject(config, options, output, signal, async (model, adapters) => {
      if (config !== undefined && taskRules(config.task).classes && model.labels === null)
        throw new UsageError(
          `the task of the config is ${config.task}, and the head that classifies is in the adapter; evaluate with it, without --no-adapter.`,
        )
      // An adapter is evaluated as it was trained. The base alone uses the prompt format that the run would use.
      const ofRun = adapters.length === 0 && model.promptFormat === null ? config : undefined
      const chatTemplate = asked ?? ofRun?.chatTemplate
      const shape = shapeOf(config, options)
      const found = await measured(
        model,
        data,
        {
          ...shape,
          ...(chatTemplate === undefined ? {} : { chatTemplate }),
          ...(ofRun === undefined ? {} : { trainingTemplate: ofRun.trainingTemplate }),
          ...(heldOut === undefined ? {} : { heldOut }),
          signal,
        },
        options.metric,
        output,
      )
      const subject = {
        model: model.path,
        adapters,
        dataset: data.path,
        eval_fraction: heldOut?.fraction ?? null,
      }
      output.answer<'eval'>({ ...found, ...subject }, () =>
        [facts(factsOf(found, exampleOf(shape))), ...classTable(found)].join('\n\n'),
      )
    })
  } catch (error) {
    if (ranks.isStop(error)) throw new InterruptedError(STOPPED)
    throw options.dataset === undefined ? error : withEncodingFlag(error)
  } finally {
    interruption.dispose()
  }
}

/** Results of an evaluation, without the model and adapters. */
type Measured = DistributiveOmit<Printed<'eval'>, 'model' | 'adapters' | 'dataset' | 'eval_fraction'>
type DistributiveOmit<T, Key extends PropertyKey> = T extends unknown ? Omit<T, Key> : never

async function measured(
  model: Model,
  data: DatasetConfig,
  options: EvaluateOptions,
  metric: Metric,
  output: Output,
): Promise<Measured> {
  return shown(output, 'Evaluating', async (line) => {
    const unit = metric === 'loss' ? 'batches' : exampleOf(options)
    const watched: EvaluateOptions = {
      ...options,
      onDataProgress: ({ rows, tokens }) =>
        line.update(`${formatCount(rows)} rows, ${formatCount(tokens)} tokens read`),
      onProgress: ({ batches, totalBatches }) =>
        line.update(`${batches} of ${totalBatches} ${unit}`, batches / totalBatches),
    }
    const { labels } = model
    if (labels !== null && metric !== 'exact_match') {
      const found = await model.evaluate(data, watched)
      const { loss, accuracy = 0, macroF1 = 0, microF1 = 0, matthewsCorrelation = 0, confusionMatrix } = found
      const scores = classScores(confusionMatrix ?? [])
      return {
        ...{ metric: 'classes', loss, accuracy, macro_f1: macroF1, micro_f1: microF1 },
        ...{ matthews_correlation: matthewsCorrelation, labels, rows: found.supervisedTokens },
        classes: scores.map((score, id) => ({ label: labels[id] as string, ...score })),
      }
    }
    if (metric === 'loss') {
      const { supervisedTokens, ...found } = await model.evaluate(data, watched)
      return { metric, ...found, supervised_tokens: supervisedTokens }
    }
    // Rows are processed one at a time, so options that shape batches do not apply.
    const { perDeviceTrainBatchSize, packing, logitsMemory, ...byRow } = watched
    if (metric === 'f1') return { metric, ...(await model.answerF1(data, byRow)) }
    const { exactMatch, matched, rows, meanTokenAccuracy, supervisedTokens } = await model.exactMatch(
      data,
      byRow,
    )
    return metric === 'exact_match'
      ? { metric, exact_match: exactMatch, matched_rows: matched.filter(Boolean).length, rows }
      : { metric, mean_token_accuracy: meanTokenAccuracy, supervised_tokens: supervisedTokens }
  })
}

/** Unit of the data's examples. */
function exampleOf({ reasoningHistory }: EvaluateOptions): 'rows' | 'answers' {
  return reasoningHistory === 'drop' ? 'answers' : 'rows'
}

/** @param unit unit of the data's examples */
function factsOf(found: Measured, unit: 'rows' | 'answers'): [string, string][] {
  const percent = (share: number) => `${(100 * share).toFixed(1)} %`
  switch (found.metric) {
    case 'loss':
      return [
        ['loss', found.loss.toFixed(4)],
        ['perplexity', found.perplexity.toFixed(3)],
        ['tokens', `${formatCount(found.tokens)}, of them ${formatCount(found.supervised_tokens)} counted`],
      ]
    case 'exact_match':
      return [
        ['exact match', percent(found.exact_match)],
        [unit, `${formatCount(found.rows)}, of them ${formatCount(found.matched_rows)} word for word`],
      ]
    case 'mean_token_accuracy':
      return [
        ['mean token accuracy', percent(found.mean_token_accuracy)],
        ['tokens', `${formatCount(found.supervised_tokens)} counted`],
      ]
    case 'f1':
      return [
        ['F1', percent(found.f1)],
        [unit, formatCount(found.rows)],
      ]
    case 'classes':
      return [
        ['loss', found.loss.toFixed(4)],
        ['accuracy', percent(found.accuracy)],
        ['macro F1', percent(found.macro_f1)],
        ['micro F1', `${percent(found.micro_f1)} (the accuracy, with one class a row)`],
        ['Matthews', found.matthews_correlation.toFixed(4)],
        ['rows', `${formatCount(found.rows)} of the classes ${found.labels.join(', ')}`],
      ]
  }
}

/** The scores of each class. */
function classTable(found: Measured): string[] {
  if (found.metric !== 'classes') return []
  const rows = found.classes.map(({ label, precision, recall, f1, support }) => [
    printable(label),
    ...[precision, recall, f1].map((share) => share.toFixed(4)),
    formatCount(support),
  ])
  return [table([['class', 'precision', 'recall', 'F1', 'rows'], ...rows], [1, 2, 3, 4])]
}

/** The data to evaluate: as given, else the held-out data of the config's run. */
function subjectData(
  config: RunConfig | undefined,
  { dataset: path, format, encoding }: Options,
): { data: DatasetConfig; heldOut?: HeldOutShare } {
  const asked = {
    ...(format === undefined ? {} : { format }),
    ...(encoding === undefined ? {} : { encoding }),
  }
  if (path !== undefined) return { data: { ...(config ? dataLike(config, path) : dataset(path)), ...asked } }
  if (config === undefined) throw new UsageError('name --dataset.')
  const { evalDataset, evalFraction, seed, strategy } = config
  if (evalDataset !== null) return { data: { ...evalDataset, ...asked } }
  if (evalFraction === 0)
    throw new UsageError('the config has no held-out data (eval_dataset or eval_fraction); pass --dataset.')
  const { groupBy, holdOutGroups } = groupedBy(strategy)
  const grouped = holdOutGroups && groupBy !== undefined ? { groupBy } : {}
  return { data: { ...config.dataset, ...asked }, heldOut: { fraction: evalFraction, seed, ...grouped } }
}

function shapeOf(config: RunConfig | undefined, options: Options) {
  const given = {
    maxSeqLength: options.maxSeqLength ?? config?.maxSeqLength,
    perDeviceTrainBatchSize: options.perDeviceTrainBatchSize ?? config?.perDeviceTrainBatchSize,
    packing: config?.packing,
    logitsMemory: config?.logitsMemory,
    trainOn: options.trainOn ?? config?.trainOn,
    trainOnReasoning: config?.trainOnReasoning,
    trainEmptyThink: config?.trainEmptyThink,
    reasoningHistory: options.reasoningHistory ?? config?.reasoningHistory,
  }
  return Object.fromEntries(Object.entries(given).filter(([, value]) => value !== undefined)) as Pick<
    EvaluateOptions,
    keyof typeof given
  >
}
