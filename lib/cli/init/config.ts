/** The config that `lowrank init` writes: YAML with a comment on each choice. */
import { relative } from 'node:path'
import { stringify } from 'yaml'
import { hasClasses } from '../../data/forms/index.js'
import { taskRules } from '../../tasks/index.js'
import type { InitialConfig } from '../../tasks/task.js'
import { counted, formatCount } from '../format.js'
import type { Survey } from './survey.js'

/** A model, and why it is the one of the config. */
export interface ChosenModel {
  name: string
  why: string
}

/** Longest row that a micro-batch is made for; longer ones are truncated. */
const LONGEST_ROW = 4096
/** Optimizer steps in which an adapter learns from a small data set. */
const FEW_STEPS = 100

/** Numbers that follow from the data. */
export interface Sizes {
  evalFraction: number
  heldOut: number
  batch: number
  epochs: number
  maxSeqLength: number
  evalSteps: number
}

export function sizesOf({ rows, task, longestRow }: Survey): Sizes {
  const evalFraction = rows < 5 ? 0 : rows < 200 ? 0.2 : rows < 5000 ? 0.1 : 0.02
  const heldOut = Math.round(evalFraction * rows)
  const batch = (taskRules(task).init as InitialConfig).perDeviceTrainBatchSize
  const trained = rows - heldOut
  const perEpoch = Math.ceil(trained / batch)
  const most = rows < 2000 ? 10 : 3
  const epochs = Math.min(most, Math.max(rows < 20_000 ? 3 : 1, Math.ceil(FEW_STEPS / perEpoch)))
  const maxSeqLength = Math.min(LONGEST_ROW, Math.max(64, 2 ** Math.ceil(Math.log2(Math.max(2, longestRow)))))
  const evalSteps = Math.max(5, Math.round((perEpoch * epochs) / 10))
  return {
    evalFraction,
    heldOut,
    batch,
    epochs,
    evalSteps,
    maxSeqLength: longestRow === 0 ? 512 : maxSeqLength,
  }
}

/**
 * @param data path of the data
 * @param folder folder of the config, which paths in it are relative to
 * @param output folder of the run
 */
export function configOf(
  survey: Survey,
  model: ChosenModel,
  data: string,
  folder: string,
  output = 'out',
): string {
  const { task, rows, classes } = survey
  const rules = taskRules(task)
  const init = rules.init as InitialConfig
  const sizes = sizesOf(survey)
  const { evalFraction, heldOut, batch, epochs, maxSeqLength, evalSteps } = sizes
  const path = relative(folder, data).replaceAll('\\', '/')
  const lines: (string | false)[] = [
    '# yaml-language-server: $schema=./node_modules/lowrank/schemas/config.schema.json',
    `# Written by lowrank init. docs/config.md of the package explains every key.`,
    '',
    entry('model', model.name, model.why),
    init.comment !== null && entry('task', task, init.comment),
    ...init.entries.map((line) => entry(...line)),
    'strategy: { name: lora, r: 16, lora_alpha: 32 } # or name: qlora, with adapter: { name: lora, … }, for 4-bit weights',
    '',
    ...datasetLines(survey, path),
    evalFraction > 0 &&
      entry(
        'eval_fraction',
        evalFraction,
        `${counted(heldOut, 'row')} of ${formatCount(rows)} to see whether it learns by heart`,
      ),
    evalFraction > 0 && entry('eval_steps', evalSteps, 'steps between evaluations'),
    evalFraction > 0 &&
      rules.classes &&
      entry('metric_for_best_model', 'f1', 'macro F1, the mean over the classes'),
    evalFraction > 0 && entry('load_best_model_at_end', true, 'keep the adapter of the best evaluation'),
    isUneven(classes) && entry('class_weights', 'balanced', 'rows of rare classes count more'),
    '',
    rules.lowRates && entry('learning_rate', '2.0e-4', 'lower than for training on answers'),
    entry('max_seq_length', maxSeqLength, lengthWords(survey, maxSeqLength)),
    entry('per_device_train_batch_size', batch, 'rows of a step'),
    !rules.rows.counted &&
      rows < 2000 &&
      entry('packing', false, 'every step has this many rows, however short'),
    entry(
      'num_train_epochs',
      epochs,
      epochs === 1 ? 'a pass over the data' : `${epochs} passes over the data`,
    ),
    entry('output_dir', output, 'the adapter, its report, and its model card'),
  ]
  return `${lines.filter((line) => line !== false).join('\n')}\n`
}

function datasetLines(survey: Survey, path: string): string[] {
  const { fileType, encoding, columns, classes, twins, rows, format } = survey
  const what = [fileType, counted(rows, 'row'), hasClasses(format) ? '' : format].filter(Boolean).join(', ')
  const names = Object.entries(columns).map(([name, column]) => `${name}: ${value(column)}`)
  const keys = [
    encoding !== undefined && entry('encoding', encoding, 'recognized by its characters'),
    names.length > 0 && `columns: { ${names.join(', ')} } # expected name: name in the data`,
    twins.length > 0 &&
      entry(
        'strip_labels',
        true,
        `${twinsIn(twins)} ${twins.length === 1 ? 'is one class' : 'are one class each'}`,
      ),
  ].filter((line) => line !== false)
  const lines =
    keys.length === 0
      ? [entry('dataset', path, what)]
      : ['dataset:', `  ${entry('path', path, what)}`, ...keys.map((line) => `  ${line}`)]
  return classes === null ? lines : [...lines, `# Classes: ${classesIn(classes)}`]
}

/** The spellings of labels that become one class, in one line. */
export function twinsIn(twins: Survey['twins']): string {
  const shown = twins.slice(0, 3).map((group) => group.map(({ label }) => JSON.stringify(label)).join(' = '))
  return [...shown, ...(twins.length > 3 ? [`and ${twins.length - 3} more`] : [])].join(', ')
}

/** Classes with their rows, in one line. */
export function classesIn(classes: NonNullable<Survey['classes']>): string {
  const shown = classes
    .slice(0, 12)
    .map(({ label, rows }) => `${JSON.stringify(label).slice(1, -1)} (${formatCount(rows)})`)
  return [...shown, ...(classes.length > 12 ? [`and ${classes.length - 12} more`] : [])].join(', ')
}

/** True if some class is rare beside another, and still has rows to spare. */
function isUneven(classes: Survey['classes']): boolean {
  const [most, least] = [classes?.[0]?.rows ?? 0, classes?.at(-1)?.rows ?? 0]
  return least >= 10 && most >= 3 * least
}

function lengthWords({ longestRow, counted }: Survey, limit: number): string {
  if (longestRow === 0) return 'documents are split into rows of this many tokens'
  const about = counted ? formatCount(longestRow) : `about ${formatCount(longestRow)}`
  return longestRow > limit
    ? `tokens; the longest row has ${about} and is truncated`
    : `tokens; the longest row has ${about}`
}

function entry(key: string, given: string | number | boolean, comment: string): string {
  return `${key}: ${value(given)} # ${comment}`
}

/** A value as YAML writes it, on one line, also in a mapping on one line. */
function value(given: string | number | boolean): string {
  if (typeof given === 'string') {
    if (/^[\d.]+e-?\d+$/.test(given)) return given
    if (/[,[\]{}\n]/.test(given)) return JSON.stringify(given)
  }
  return stringify(given, { lineWidth: 0 }).trimEnd()
}
