/** Looks tasks up, by name and by what they state. */
import { addForeignKeys } from '../core/foreign-keys.js'
import type { DatasetFormat } from '../data/dataset.js'
import { ALL_TASKS, type Task } from './list.js'
import type { RunFacts, TaskRules } from './task.js'

export { ALL_TASKS, type Task }

addForeignKeys('Preference training', ALL_TASKS)

export const DEFAULT_TASK: Task = 'causal_lm'

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
