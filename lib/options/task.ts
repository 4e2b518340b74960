/** Options of the task of a run: the keys of all tasks in one schema, and which of them go together. */

import * as z from 'zod'
import { badValue, type OptionSource, word } from '../core/schema.js'
import { ALL_TASKS, DEFAULT_TASK, type Task, taskRules, tasksWhere } from '../tasks/index.js'
import { type CustomMetric, METRICS, type Metric } from '../tasks/metrics.js'
import type { RunFacts } from '../tasks/task.js'
import type { TaskOptions } from './types.js'

/** Class weights: inversely proportional to class frequency (`balanced`), or by class name, with a default of 1. */
export type ClassWeights = NonNullable<TaskOptions['classWeights']>

/** Names of the losses of `dpo`, and of `grpo`. */
export type LossType = NonNullable<TaskOptions['lossType']>

/** Texts of tasks, each once, after the names of the tasks that have it. */
function ofTasks(said: readonly (readonly [task: string, text: string])[]): string {
  return [...new Set(said.map(([, text]) => text))]
    .map((text) => {
      const tasks = said.filter(([, other]) => other === text).map(([task]) => `\`${task}\``)
      return `${tasks.join(', ')}: ${text}.`
    })
    .join(' ')
}

const ABOUT_TASKS = ofTasks(
  ALL_TASKS.map(({ name, about, page }) => [name, page === undefined ? about : `${about}, see ${page}`]),
)

/** The documentation of an option, which may mean one thing to some tasks and another to others. */
function described(key: string): string {
  return ofTasks(
    ALL_TASKS.flatMap(({ name, options: { [key]: option } }) => {
      if (option === undefined) return []
      const { about, default: value, defaultText } = option
      const words = defaultText ?? (typeof value === 'string' ? `\`${value}\`` : value)
      return [[name, words === undefined ? about : `${about}. Default: ${words}`] as const]
    }),
  )
}

/** One schema for what tasks take under one name: some the same values, others words of their own. */
function schemaOf(key: string): z.ZodType {
  const schemas = ALL_TASKS.flatMap(({ options }) => options[key]?.schema ?? [])
  const words = schemas.flatMap((schema) => (schema instanceof z.ZodEnum ? schema.options.map(String) : []))
  return words.length > 0 ? word(words as [string, ...string[]]) : (schemas[0] as z.ZodType)
}

type OwnOptions = Omit<TaskOptions, 'task'>

/** Options that belong to some tasks. */
const OWN_KEYS = [...new Set(ALL_TASKS.flatMap(({ options }) => Object.keys(options)))]

export const taskShape = {
  task: word(tasksWhere(() => true))
    .default(DEFAULT_TASK)
    .describe(`Task of the run. ${ABOUT_TASKS}`),
  ...(Object.fromEntries(
    OWN_KEYS.map((key) => [key, schemaOf(key).nullable().default(null).describe(described(key))]),
  ) as unknown as { [Key in keyof OwnOptions]: z.ZodDefault<z.ZodType<OwnOptions[Key]>> }),
}

const OF_ANSWERS: readonly string[] = [
  'exact_match',
  'mean_token_accuracy',
  'f1',
  'reward',
] satisfies Metric[]

/** True if the metric is computed on answers, in addition to the loss. */
export function isOfAnswers(task: Task, metric: Metric | CustomMetric): boolean {
  return taskRules(task).evaluation.answers && (typeof metric !== 'string' || OF_ANSWERS.includes(metric))
}

/** True if the metric needs generated answers; others only need the most likely token at each position. */
export function isOfGenerated(task: Task, metric: Metric | CustomMetric): boolean {
  const { answers } = taskRules(task).evaluation
  return answers && (typeof metric !== 'string' || metric === 'f1' || metric === 'reward')
}

/** @throws {ConfigError} for a metric that the task does not compute */
function checkMetric(task: Task, metric: Metric | CustomMetric, source: OptionSource): void {
  const { metrics: known, answers } = taskRules(task).evaluation
  const bad = (expected: string) => badValue(source, 'metricForBestModel', metric, expected)
  if (typeof metric === 'string') {
    if (!known.includes(metric)) throw bad(`one of ${known.join(', ')} with task ${task}`)
    return
  }
  if (!answers)
    throw bad(`one of ${known.join(', ')} with task ${task}, whose evaluations generate no answers`)
  if ((METRICS as readonly string[]).includes(metric.name))
    throw bad(`another name than ${metric.name}, which is a metric of lowrank`)
}

/** The task options, plus options that some tasks do not support. */
interface Beside extends TaskOptions {
  readonly trainOn: string
  readonly reasoningHistory: string
  readonly metricForBestModel: Metric | CustomMetric
  readonly labelSmoothingFactor: number
  readonly neftuneNoiseAlpha: number | null
  readonly optimizerInBackward: boolean
}

/** The options that `checkTask` reads. */
export const CHECKED_WITH_TASK: readonly (keyof Beside)[] = [
  ...(['task', 'trainOn', 'reasoningHistory', 'metricForBestModel'] as const),
  ...(OWN_KEYS as (keyof OwnOptions)[]),
  ...new Set(ALL_TASKS.flatMap(({ refuses }) => refuses.map(({ key }) => key as keyof Beside))),
]

/** @throws {ConfigError} for an option that the task does not support */
export function checkTask(
  options: Pick<Beside, (typeof CHECKED_WITH_TASK)[number]>,
  source: OptionSource,
): void {
  const { task, metricForBestModel } = options
  const rules = taskRules(task)
  const run: RunFacts = { ...options }
  const bad = (key: string, value: unknown, expected: string) => badValue(source, key, value, expected)
  for (const key of OWN_KEYS) {
    if (run[key] === null || key in rules.options) continue
    const tasks = tasksWhere(({ options }) => key in options).join(' and ')
    throw bad(key, run[key], `it to be absent with task ${task}; it belongs to ${tasks}`)
  }
  if (options.reasoningHistory === 'drop') checkHistory(options, source)
  checkMetric(task, metricForBestModel, source)
  for (const [key, { schema }] of Object.entries(rules.options)) {
    if (!(schema instanceof z.ZodEnum) || run[key] === null || schema.safeParse(run[key]).success) continue
    throw bad(key, run[key], `one of ${schema.options.join(', ')} with task ${task}`)
  }
  rules.check?.(run, bad)
  for (const { key, refuses, expected } of rules.refuses)
    if (refuses(run[key])) throw bad(key, run[key], expected)
}

/** @throws {ConfigError} unless the run trains on answers of chats */
function checkHistory({ task, trainOn }: Pick<Beside, 'task' | 'trainOn'>, source: OptionSource): void {
  const bad = (why: string) => badValue(source, 'reasoningHistory', 'drop', `keep ${why}`)
  if (!taskRules(task).rows.perAnswer) throw bad(`with task ${task}`)
  const key = source.spelling === 'snake' ? 'train_on' : 'trainOn'
  if (trainOn === 'all') throw bad(`with ${key} all: drop trains on answers, each in an example of its own`)
}
