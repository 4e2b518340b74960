/** The tasks of a compare and their runners. */
import { InternalError } from '../core/errors.js'
import { readStrategy } from '../strategies/index.js'
import type { RunConfig } from '../train/config/config.js'
import type { CompareCell, CompareEntry, CompareResults, CompareRung, CompareSearch } from './results.js'
import { Workbench, type WorkbenchOptions } from './workbench.js'

/** A search run, or the training of an entry with one seed. */
export type CompareTask =
  | { kind: 'rung'; name: string; seed: number; rate: number; rung: number; steps: number }
  | { kind: 'cell'; name: string; seed: number }

/** Result of a task. */
export type Outcome = { kind: 'rung'; rung: CompareRung } | { kind: 'cell'; cell: CompareCell }

/** The parts of the results that a task needs. */
export type TaskContext = Pick<CompareResults, 'entries' | 'model' | 'data' | 'binary'>

/** The parts of the results that another process needs for a task, without the results of other entries. */
export function taskContext(
  task: CompareTask,
  { entries, model, data, binary }: CompareResults,
): TaskContext {
  const own = entries.filter(({ name }) => name === task.name).map((entry) => ({ ...entry, cells: [] }))
  return { entries: own, model, data, binary }
}

/** Runs one task at a time. */
export interface Runner {
  run(task: CompareTask, results: CompareResults): Promise<Outcome>
  /** Stops waiting for a task that runs elsewhere; its promise rejects with the error. */
  abandon?(error: unknown): void
  close(): Promise<void>
}

/** Runs a task on a workbench. */
export async function runTask(
  workbench: Workbench,
  task: CompareTask,
  { entries, model, data, binary }: TaskContext,
): Promise<Outcome> {
  const entry = entries.find(({ name }) => name === task.name)
  if (entry === undefined) throw new InternalError(`a compare has no entry ${task.name}`)
  const strategy = strategyOf(entry)
  if (task.kind === 'rung') {
    const rung = await workbench.rung(strategy, task.rate, task.steps, task.seed)
    return { kind: 'rung', rung }
  }
  const { name, steps } = entry
  const run = { rate: searchOf(entry, task.seed).chosen as number, steps, seed: task.seed }
  const about = { model, data, binary }
  return { kind: 'cell', cell: await workbench.cell({ name, strategy }, run, about) }
}

/** The search of an entry with a seed. */
export function searchOf({ name, searches }: CompareEntry, seed: number): CompareSearch {
  const found = searches.find((search) => search.seed === seed || search.seed === null)
  if (found === undefined) throw new InternalError(`a compare has no search of ${name} with the seed ${seed}`)
  return found
}

/** Parses the strategy of an entry from the results. */
export function strategyOf({ name, strategy }: Pick<CompareEntry, 'name' | 'strategy'>) {
  return readStrategy(strategy, { name: `entry ${name}`, spelling: 'snake', at: 'strategy' })
}

/** Runs tasks in this process. */
export class LocalRunner implements Runner {
  private constructor(readonly workbench: Workbench) {}

  static async open(config: RunConfig, options: WorkbenchOptions): Promise<LocalRunner> {
    return new LocalRunner(await Workbench.open(config, options))
  }

  run(task: CompareTask, results: CompareResults): Promise<Outcome> {
    return runTask(this.workbench, task, results)
  }

  close(): Promise<void> {
    return this.workbench.dispose()
  }
}
