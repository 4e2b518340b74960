/** `lowrank eval`: loss and perplexity of a model, with or without an adapter, on a dataset. */
import { type Command, Option } from 'commander'
import { DATASET_FORMATS, type DatasetFormat } from '../files/dataset.js'
import { TRAIN_ON, type TrainOn } from '../files/encode.js'
import type { EvaluateOptions, Model } from '../model.js'
import type { RunConfig } from '../train/config.js'
import { type DatasetConfig, dataset } from '../train/data.js'
import type { Evaluation } from '../train/evaluate.js'
import { checkData } from '../train/preflight.js'
import { UsageError } from './errors.js'
import { facts, formatCount } from './format.js'
import { examples, integerFlag } from './help.js'
import { Interruption } from './interrupt.js'
import { Output } from './output.js'
import { shown } from './progress.js'
import {
  chatTemplateOf,
  type FormatFlags,
  formatFlags,
  readSubject,
  type SubjectOptions,
  subjectFlags,
  withSubject,
} from './subject.js'

interface Options extends SubjectOptions, FormatFlags {
  dataset?: string
  format?: DatasetFormat | 'auto'
  maxSeqLength?: number
  perDeviceTrainBatchSize?: number
  trainOn?: TrainOn
  json?: boolean
}

export function configure(command: Command): void {
  subjectFlags(command)
  command.option('--dataset <path>', 'data to evaluate on (with a config: its eval_dataset by default)')
  command.addOption(new Option('--format <form>', 'of the dataset').choices(['auto', ...DATASET_FORMATS]))
  command.option('--max-seq-length <N>', 'tokens after which a row is cut', integerFlag(2))
  command.option('--batch, --per-device-train-batch-size <N>', 'sequences at once', integerFlag(1))
  command.addOption(new Option('--train-on <what>', 'which tokens count').choices(TRAIN_ON))
  formatFlags(command, 'rows of prompt and completion')
  examples(command, [
    'lowrank eval --model models/SmolLM2-135M-Instruct --adapter out --dataset dev.jsonl',
    'lowrank eval run.yaml --no-adapter',
  ])
  command.action(async (path: string | undefined, options: Options) => {
    const output = new Output(options.json ?? false)
    const config = await readSubject(path, options, output)
    const data = datasetOf(config, options)
    const asked = chatTemplateOf(options)
    const interruption = new Interruption(output, 'Stopping.')
    const { signal } = interruption
    try {
      await checkData(data)
      await withSubject(config, options, output, signal, async (model, adapters) => {
        // With an adapter it is as that was trained; the base alone is asked as the run would.
        const chatTemplate =
          asked ?? (adapters.length === 0 && model.promptFormat === null ? config?.chatTemplate : undefined)
        const { supervisedTokens, ...found } = await evaluateShown(
          model,
          data,
          { ...shapeOf(config, options), ...(chatTemplate === undefined ? {} : { chatTemplate }), signal },
          output,
        )
        const answer = {
          ...found,
          supervised_tokens: supervisedTokens,
          model: model.path,
          adapters,
          dataset: data.path,
        }
        output.answer<'eval'>(answer, () =>
          facts([
            ['loss', found.loss.toFixed(4)],
            ['perplexity', found.perplexity.toFixed(3)],
            ['tokens', `${formatCount(found.tokens)}, of them ${formatCount(supervisedTokens)} counted`],
          ]),
        )
      })
    } finally {
      interruption.dispose()
    }
  })
}

async function evaluateShown(
  model: Model,
  data: DatasetConfig,
  options: EvaluateOptions,
  output: Output,
): Promise<Evaluation> {
  return shown(output, 'Evaluating', (line) =>
    model.evaluate(data, {
      ...options,
      onDataProgress: ({ rows, tokens }) =>
        line.update(`${formatCount(rows)} rows, ${formatCount(tokens)} tokens read`),
      onProgress: ({ batches, totalBatches }) =>
        line.update(`${batches} of ${totalBatches} batches`, batches / totalBatches),
    }),
  )
}

function datasetOf(config: RunConfig | undefined, options: Options): DatasetConfig {
  if (options.dataset !== undefined) return dataset(options.dataset, { format: options.format ?? 'auto' })
  if (config?.evalDataset) return config.evalDataset
  throw new UsageError(
    config === undefined ? 'name --dataset.' : 'the config has no eval_dataset; name --dataset.',
  )
}

function shapeOf(config: RunConfig | undefined, options: Options) {
  const given = {
    maxSeqLength: options.maxSeqLength ?? config?.maxSeqLength,
    perDeviceTrainBatchSize: options.perDeviceTrainBatchSize ?? config?.perDeviceTrainBatchSize,
    packing: config?.packing,
    trainOn: options.trainOn ?? config?.trainOn,
  }
  return Object.fromEntries(Object.entries(given).filter(([, value]) => value !== undefined))
}
