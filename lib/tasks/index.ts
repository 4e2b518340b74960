/** The tasks, in the order of lists and help. To add one, write a file next to this one and list it here. */
import type { DatasetFormat } from '../data/dataset.js'
import { causalLm } from './causal-lm.js'
import { classification } from './classification.js'
import { dpo } from './dpo.js'
import { grpo } from './grpo.js'
import { kto } from './kto.js'
import { orpo } from './orpo.js'
import type { RunFacts, TaskRules } from './task.js'

/**
 * `causal_lm` predicts the next token, `classification` the class of a text; `dpo` and `orpo` learn from preferences
 * between two answers, `kto` from answers that are good or bad, and `grpo` from rewards of sampled answers.
 */
export type Task = 'causal_lm' | 'classification' | 'dpo' | 'orpo' | 'kto' | 'grpo'

export const ALL_TASKS: readonly TaskRules<Task>[] = [causalLm, classification, dpo, orpo, kto, grpo]

export const DEFAULT_TASK: Task = causalLm.name

const BY_NAME: ReadonlyMap<Task, TaskRules<Task>> = new Map(ALL_TASKS.map((rules) => [rules.name, rules]))

export const taskRules = (name: Task = DEFAULT_TASK): TaskRules<Task> => BY_NAME.get(name) as TaskRules<Task>

/** Names of the tasks for which something holds. */
export const tasksWhere = (holds: (rules: TaskRules<Task>) => boolean): [Task, ...Task[]] =>
  ALL_TASKS.filter(holds).map(({ name }) => name) as [Task, ...Task[]]

/** The first task that requires rows of a format, or else the one of all other formats. */
export const taskOfForm = (format: DatasetFormat): Task =>
  tasksWhere(({ rows }) => rows.form === format)[0] ?? DEFAULT_TASK

/** The options of a task, with its defaults in place of null; null where a default depends on other options. */
export function taskOptions<Options>(run: RunFacts & { readonly task?: Task }): Options {
  const { options } = taskRules(run.task)
  return Object.fromEntries(
    Object.entries(options).map(([key, option]) => [key, run[key] ?? option.default ?? null]),
  ) as Options
}
