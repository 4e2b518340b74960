/**
 * The config file of a run: YAML or JSON with the keys of transformers and PEFT in snake_case. Reading a config
 * fills in defaults, resolves paths relative to the file, and applies the settings that the strategy implies.
 */

import { existsSync } from 'node:fs'
import { dirname, isAbsolute, resolve } from 'node:path'
import * as z from 'zod'
import { badArgument, callback, checkedOptions, checkedPath } from '../../core/arguments.js'
import { ConfigError } from '../../core/errors.js'
import {
  badValue,
  flag,
  integer,
  type OptionSource,
  positive,
  readOptions,
  text,
  throwMistakes,
  word,
} from '../../core/schema.js'
import { STDIN } from '../../data/dataset.js'
import { parseHubName } from '../../hub/name.js'
import { readText } from '../../io/input.js'
import type { DeviceOption } from '../../native/device.js'
import { checkInBackward } from '../../options/in-backward.js'
import { labelsSchema } from '../../options/labels.js'
import { type RunOptions, trainShape } from '../../options/options.js'
import { ownRate } from '../../options/rates.js'
import { type Split, splitSchema } from '../../options/split.js'
import { CHECKED_WITH_TASK, checkTask } from '../../options/task.js'
import type { MemoryShape, TrainOptions } from '../../options/types.js'
import { isPrivate, rulesOf, strategySchema } from '../../strategies/index.js'
import type { StrategyConfig } from '../../strategies/strategy.js'
import { type Task, taskRules, tasksWhere } from '../../tasks/index.js'
import { namedMetricSchema } from '../../tasks/metrics.js'
import { rewardPathsSchema } from '../../tasks/rewards.js'
import {
  deviceSchema,
  type PrecisionOption,
  pagedWeightsSchema,
  precisionSchema,
  quantizationOf,
  quantizationSchema,
  threadsSchema,
} from '../../weights/options.js'
import { describeQuantization, type Quantization, type TrainingDefaults } from '../../weights/quantization.js'
import { checkEvalGenerate } from '../answers/samples.js'
import { REPORT_TO, type ReportTo } from '../records/tensorboard.js'
import {
  checkStreaming,
  checkTaskData,
  type DatasetConfig,
  dataset,
  datasetObject,
} from '../sources/data-sources.js'
import { checkBest } from '../steps/best.js'
import { checkConfigPath } from './config-path.js'
import { checkInitAdapter } from './init-adapter.js'
import { applyOverrides, type Parse } from './overrides.js'

const SIZE_LIMIT = 4 << 20

/** A fully resolved run: every default filled in, every path absolute. */
export interface RunConfig
  extends Omit<RunOptions, 'optimizer' | 'learningRate'>,
    Pick<TrainOptions, 'optimizer'>,
    Pick<MemoryShape, 'pagedWeights'> {
  readonly model: string
  /** Peak learning rate; `auto` is searched by `lowrank train`. */
  readonly learningRate: number | 'auto'
  /** Branch, tag, or commit of a model on the hub. */
  readonly revision: string | null
  /** Default: as in the model's files, if they are quantized, else what the strategy implies. */
  readonly quantization?: Quantization
  /** Default: none; as in the file if `quantization` is keep. */
  readonly embeddingQuantization?: Quantization
  readonly precision: PrecisionOption
  readonly strategy: StrategyConfig
  /** The adapter whose values the run starts with; null for new ones. */
  readonly initAdapter: string | null
  readonly dataset: DatasetConfig
  readonly evalDataset: DatasetConfig | null
  /** Share of the training data held out for evaluation when there is no `evalDataset`. */
  readonly evalFraction: number
  readonly device: DeviceOption
  /** Work that ranks of MPI share: the rows of a step, or the layers of the model. */
  readonly split: Split
  readonly threads: number | 'auto'
  readonly outputDir: string
  /** Classes of a classifier, in the order of their ids; null takes the classes of the training data. */
  readonly labels: readonly string[] | null
  /** True if the run writes its page, report.html. */
  readonly report: boolean
  /** A program that the run's events are also written for, in addition to metrics.jsonl. */
  readonly reportTo: ReportTo
  /** Rows that the base and the adapter answer at the end of `lowrank train`. */
  readonly sampleRows: number
}

const datasetSchema = z.union([text(), z.array(text()).min(1), datasetObject], {
  error: 'a path, a list of paths, or {path: …, format: …}',
})

/** Every key of a config file, in camelCase. */
export const configSchema = z.strictObject({
  model: text('a model folder, a .gguf file or a name on the hub').describe(
    'The base model: a folder, a `.gguf` file, or `owner/name` on the Hugging Face hub. An existing path beside the config takes precedence.',
  ),
  revision: text('a branch, tag or commit')
    .nullable()
    .default(null)
    .describe(
      'Branch, tag, or commit of a model on the hub; `null` is `main`. The `config.yaml` that a run writes records the commit.',
    ),
  quantization: quantizationSchema
    .optional()
    .describe(
      'Format of the frozen linears; `keep` uses the blocks of a `.gguf` file. Default: the format of files quantized by bitsandbytes, else the one of the strategy, else `none`.',
    ),
  embeddingQuantization: quantizationSchema
    .optional()
    .describe(
      'Format of the embedding and the head, which share one copy if they are tied. Default: `none` (16 bits or more), or `keep` if `quantization` is `keep`.',
    ),
  precision: precisionSchema,
  pagedWeights: pagedWeightsSchema,
  labels: labelsSchema
    .nullable()
    .default(null)
    .describe(
      '`classification`: names of the classes, in the order of their ids. Default: the labels of `dataset`, sorted.',
    ),
  strategy: strategySchema.describe(
    'The fine-tuning method and its options; `lowrank strategies` lists the names.',
  ),
  initAdapter: text('an adapter folder, a file or a name on the hub')
    .nullable()
    .default(null)
    .describe(
      'Adapter whose values the run starts with, for example to train [preferences](recipes.md#preference-pairs) after answers: a folder, a file, or a name on the hub. It has the linears, ranks, and scales of `strategy`. `null`: new values.',
    ),
  dataset: datasetSchema.describe('Training data.'),
  evalDataset: datasetSchema.nullable().default(null).describe('Held-out data.'),
  evalFraction: z
    .number({ error: 'a number in [0, 1)' })
    .min(0, { error: 'a number in [0, 1)' })
    .lt(1, { error: 'a number in [0, 1)' })
    .default(0)
    .describe(
      'Share of `dataset` to hold out for evaluation, instead of `eval_dataset`. Copies of a row are held out together.',
    ),
  ...trainShape,
  learningRate: z
    .union([positive(), z.literal('auto')], { error: 'a number above 0, or auto' })
    .nullable()
    .default(null)
    .describe(
      'Peak learning rate. `null`: the default of the strategy, listed by `lowrank strategies`. `auto`: [searched](#learning_rate-auto) before the run.',
    ),
  metricForBestModel: namedMetricSchema,
  rewardFunctions: rewardPathsSchema,
  device: deviceSchema,
  split: splitSchema,
  threads: threadsSchema.describe(
    'Number of threads. `auto` is `LOWRANK_THREADS`, else the number of cores available to the process.',
  ),
  sampleRows: integer(0)
    .default(3)
    .describe(
      'Rows that `lowrank train` answers at its end with the base and the tuned model, held-out rows if there are any. 0 turns this off; private runs never show rows.',
    ),
  report: flag()
    .default(true)
    .describe(
      'Write `report.html`, the [page of the run](files.md#reporthtml), when the run is over, however it ended. A private run writes it beside its metrics, not beside the adapter.',
    ),
  reportTo: word(REPORT_TO)
    .default('none')
    .describe(
      '`tensorboard` also writes the events for TensorBoard, to `runs/` in `output_dir` (`tensorboard --logdir OUTPUT_DIR`); of a private run beside its metrics.',
    ),
  outputDir: text('a folder')
    .default('out')
    .describe(
      'Folder for the adapter, metrics, and checkpoints. A private run writes everything except the adapter to `<output_dir>-secret` beside it.',
    ),
})

const controlSchema = z.strictObject({
  onNote: callback<NonNullable<ConfigControl['onNote']>>().optional(),
})

/** Callbacks for reading a config. */
export interface ConfigControl {
  /** Called with a sentence about each other key that an override has changed. */
  onNote?: (note: string) => void
}

/**
 * Reads a config file.
 * @param overrides `key=value` pairs whose keys may be paths (`strategy.r=8`) and whose values are YAML
 * @throws {FileFormatError} when the file is missing
 * @throws {ConfigError} that lists every mistake: the key, its value and what was expected
 */
export async function loadConfig(
  path: string,
  overrides: readonly string[] = [],
  control: ConfigControl = {},
): Promise<RunConfig> {
  checkedPath(path, 'loadConfig()', 'path')
  if (!Array.isArray(overrides) || !overrides.every((one) => typeof one === 'string'))
    throw badArgument(overrides, 'loadConfig()', 'overrides', "a list of texts such as 'strategy.r=8'")
  const { onNote } = checkedOptions(controlSchema, control, 'loadConfig()')
  checkConfigPath(path)
  // Imported on demand, so that programs without a config file do not load the YAML parser.
  const { parse } = await import('yaml')
  const raw = parseYaml(parse, await readText(path, SIZE_LIMIT), path)
  for (const note of applyOverrides(parse, raw, overrides)) onNote?.(note)
  return resolveConfig(raw, { name: path, spelling: 'snake' }, dirname(resolve(path)))
}

/**
 * Checks a config read from a file or built by a program.
 * @param folder base of relative paths
 * @throws {ConfigError} that lists every mistake
 */
export function resolveConfig(raw: unknown, source: OptionSource, folder: string): RunConfig {
  const { data: given, mistakes } = readOptions(configSchema, raw, source)
  const inFolder = (path: string) => (isAbsolute(path) ? path : resolve(folder, path))
  const placed = (path: string) => (path === STDIN ? path : inFolder(path))
  const datasetOf = (value: z.infer<typeof datasetSchema>): DatasetConfig => {
    const { path, ...form } = typeof value === 'string' || Array.isArray(value) ? dataset(value) : value
    return { path: typeof path === 'string' ? placed(path) : path.map(placed), ...form }
  }
  const optional = <In, Out>(value: In | undefined, make: (value: In) => Out) =>
    value === undefined ? undefined : make(value)
  const data = {
    dataset: optional(given.dataset, datasetOf),
    evalDataset: optional(given.evalDataset, (value) => (value === null ? null : datasetOf(value))),
    evalFraction: given.evalFraction,
  }
  const { strategy, quantization, embeddingQuantization, ...rest } = given
  /** Runs a check of several keys if all of them are valid. */
  const check = <Keys extends object, Out>(keys: Keys, work: (keys: Whole<Keys>) => Out): Out | undefined => {
    if (Object.values(keys).includes(undefined)) return undefined
    try {
      return work(keys as Whole<Keys>)
    } catch (error) {
      if (!(error instanceof ConfigError)) throw error
      mistakes.push(error)
      return undefined
    }
  }
  check(data, ({ evalDataset, evalFraction }) => {
    if (evalDataset !== null && evalFraction > 0)
      throw badValue(source, 'evalFraction', evalFraction, 'it to be absent, since eval_dataset is given')
  })
  check({ ...data, maxSteps: given.maxSteps }, ({ maxSteps, ...data }) =>
    checkStreaming(data, { maxSteps }, source),
  )
  const { task, labels, optimizerInBackward } = given
  const withTask = Object.fromEntries(CHECKED_WITH_TASK.map((key) => [key, given[key]]))
  check(withTask as Pick<typeof given, (typeof CHECKED_WITH_TASK)[number]>, (options) =>
    checkTask(options, source),
  )
  check({ task, labels }, ({ task, labels }) => {
    if (labels === null || taskRules(task).classes) return
    const owners = tasksWhere(({ classes }) => classes).join(' and ')
    throw badValue(source, 'labels', labels, `it to be absent with task ${task}; it belongs to ${owners}`)
  })
  check({ ...data, task, strategy }, (all) => checkTaskData(all, source))
  const { learningRate } = given
  check({ learningRate, task, strategy, dataset: data.dataset }, (all) => checkRateSearch(all, source))
  const { gradientAccumulationSteps, maxGradNorm } = given
  check(
    { optimizerInBackward, gradientAccumulationSteps, maxGradNorm, strategy },
    ({ strategy, ...options }) => checkInBackward(options, strategy, source),
  )
  const { loadBestModelAtEnd, metricForBestModel, greaterIsBetter, evalSteps } = given
  const { earlyStoppingPatience, earlyStoppingThreshold, outputDir } = given
  check(
    {
      ...{ ...data, strategy, outputDir, loadBestModelAtEnd, metricForBestModel, greaterIsBetter },
      ...{ evalSteps, earlyStoppingPatience, earlyStoppingThreshold },
    },
    (all) => checkBest(all, all, source),
  )
  const { initAdapter } = given
  check({ initAdapter, strategy, learningRate, outputDir }, ({ initAdapter, outputDir, ...all }) =>
    checkInitAdapter(
      {
        ...all,
        initAdapter: initAdapter && localOrHub(initAdapter, folder),
        outputDir: inFolder(outputDir),
      },
      source,
    ),
  )
  const { evalGenerate } = given
  check({ ...data, strategy, task, evalGenerate }, (all) => checkEvalGenerate(all, all, source))
  const asked = (Object.entries({ quantization, embeddingQuantization }) as AskedQuantization[]).map(
    ([key, value]) =>
      check({ strategy, value }, (all) => askedQuantization(key, all.strategy, all.value, source)),
  )
  throwMistakes(source, mistakes)
  const whole = { ...rest, strategy, ...data } as RunConfig
  return {
    ...whole,
    learningRate: whole.learningRate ?? ownRate(whole.strategy, whole.optimizer),
    ...Object.assign({}, ...asked),
    model: localOrHub(whole.model, folder),
    initAdapter: whole.initAdapter && localOrHub(whole.initAdapter, folder),
    outputDir: inFolder(whole.outputDir),
    chatTemplate: typeof whole.chatTemplate === 'string' ? inFolder(whole.chatTemplate) : whole.chatTemplate,
    rewardFunctions: given.rewardFunctions ? [given.rewardFunctions].flat().map(inFolder) : null,
  }
}

type Whole<T> = { [Key in keyof T]-?: Exclude<T[Key], undefined> }
type AskedQuantization = [keyof TrainingDefaults, z.infer<typeof quantizationSchema> | undefined]

/** The quantization that a config key asks for, which must match the strategy's. */
function askedQuantization(
  key: keyof TrainingDefaults,
  strategy: StrategyConfig,
  given: z.infer<typeof quantizationSchema>,
  source: OptionSource,
): TrainingDefaults {
  const wanted = rulesOf(strategy).defaults(strategy)[key]
  const asked = quantizationOf(given)
  if (wanted !== undefined && asked.type !== wanted.type)
    throw badValue(
      source,
      key,
      given,
      `${describeQuantization(wanted)}, which strategy ${strategy.name} requires; remove the key or choose another strategy`,
    )
  return { [key]: asked }
}

/** @throws {ConfigError} when the learning rate is to be searched, but cannot be */
function checkRateSearch(
  run: {
    learningRate: number | 'auto' | null
    task: Task
    strategy: StrategyConfig
    dataset: DatasetConfig
  },
  source: OptionSource,
): void {
  const { learningRate, task, strategy, dataset } = run
  if (learningRate !== 'auto') return
  const bad = (why: string) => badValue(source, 'learningRate', learningRate, `a number, since ${why}`)
  if (isPrivate(strategy)) throw bad(`a search would spend privacy of strategy ${strategy.name}`)
  if (!taskRules(task).runs.compared) throw bad(`task ${task} has no search`)
  if (dataset.streaming || dataset.path === STDIN) throw bad('a search reads the data before the run does')
}

/** The keys of a config that are options of the run itself; a rate to be searched is the default. */
export function trainOptions(config: RunConfig): RunOptions {
  const keys = Object.keys(trainShape) as (keyof RunOptions)[]
  const options = Object.fromEntries(keys.map((key) => [key, config[key]])) as unknown as RunOptions
  if (config.learningRate !== 'auto') return options
  return { ...options, learningRate: ownRate(config.strategy, config.optimizer) }
}

/** Quantization options of a run for `loadModel`. */
export function loadQuantization({
  quantization,
  embeddingQuantization,
  strategy,
}: Pick<RunConfig, 'quantization' | 'embeddingQuantization' | 'strategy'>): TrainingDefaults & {
  defaultQuantization?: Quantization
} {
  const { quantization: usual } = rulesOf(strategy).defaults(strategy)
  return {
    ...(quantization === undefined ? {} : { quantization }),
    ...(embeddingQuantization === undefined ? {} : { embeddingQuantization }),
    ...(usual === undefined ? {} : { defaultQuantization: usual }),
  }
}

/** An existing path beside the config takes precedence over a hub name. */
function localOrHub(given: string, folder: string): string {
  const local = resolve(folder, given)
  const name = parseHubName(given) !== undefined || /^\w[\w-]*$/.test(given)
  return existsSync(local) || !name ? local : given
}

function parseYaml(parse: Parse, source: string, path: string): Record<string, unknown> {
  let value: unknown
  try {
    value = parse(source, { maxAliasCount: 100, prettyErrors: true })
  } catch (cause) {
    const { message, code } = cause as Error & { code?: string }
    const advice =
      code === 'BAD_DQ_ESCAPE'
        ? 'Backslashes in double quotes begin an escape: write a path without quotes, or in single ones.'
        : 'A config has keys and values such as "model: …", one per line.'
    throw new ConfigError(
      `${path}: not valid YAML: ${message.split('\n')[0]?.replace(/:$/, '')}. ${advice}`,
      { source: path },
      { cause },
    )
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value))
    throw new ConfigError(`${path}: expected keys and values such as "model: …", one per line.`, {
      source: path,
    })
  return value as Record<string, unknown>
}
