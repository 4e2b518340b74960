/**
 * Compares strategies on one model and one data set: each gets a learning rate from the same search, then trains with
 * several seeds; all are evaluated on the same held-out rows. Every result is written as soon as it is available, so a
 * compare can stop and resume at any point.
 */
import { existsSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { badArgument, checkedOptions } from '../core/arguments.js'
import { ConfigError } from '../core/errors.js'
import { badValue } from '../core/schema.js'
import { isRecord } from '../core/schema-shape.js'
import { checkFolder, makeFolder } from '../io/atomic-folder.js'
import { removeLeftovers } from '../io/temporary.js'
import { taskRules, tasksWhere } from '../tasks/index.js'
import { canonical } from '../train/checkpoints/run-identity.js'
import type { RunConfig } from '../train/config/config.js'
import { lockRun } from '../train/folders/run-lock.js'
import { threadsOf } from '../train/run/run-time.js'
import { BudgetKeeper } from './budget.js'
import { type CompareTask, LocalRunner, type Outcome, type Runner, searchOf } from './cells.js'
import { contestants, readEntries } from './entries.js'
import { checkOwn } from './equal.js'
import { ChildRunner, checkJobs, fittingJobs } from './jobs.js'
import { marginsOf, withMargins } from './margin.js'
import { type Metric, metricsOf } from './metrics.js'
import { type CompareAsked, type CompareOptions, compareSchema } from './options.js'
import { checkSame, identityOf, prepared } from './prepare.js'
import { VERSION } from './proof.js'
import type { CompareResults } from './results.js'
import { isComplete, PAGE, readResults, resultsPath, sealed, writeResults } from './results-file.js'
import { isCompare } from './review.js'
import { addRung, chooseRate, nextRungs, searchRuns } from './search.js'
import { settingsOf } from './settings.js'
import { judgedAgain } from './verdict.js'
import type { WorkbenchOptions } from './workbench.js'

/**
 * Compares strategies on the model and data of a config. The config's `strategy` sets rank, scale, and targets for all;
 * its held-out data (`evalDataset` or `evalFraction`) is the test set, which is evaluated once per finished training.
 * Some training rows are set aside to choose learning rates. Results are written to `results.json` in the output
 * folder.
 * @throws {ConfigError} for an option out of range, a config without held-out data, a budget that is too small, or a
 * folder that holds a different compare
 * @throws {UnsupportedError} when a requested strategy does not support the base model
 * @throws {FileFormatError} for results that were edited by hand
 * @example const { statistics } = await compare(await loadConfig('run.yaml'), { strategies: ['lora', 'dora'] })
 */
export async function compare(config: RunConfig, options: CompareOptions = {}): Promise<CompareResults> {
  const call = checkedCall(config, options)
  const begun = await begin(call)
  if (begun.finished !== undefined) return concludedAgain(begun, begun.finished)
  const { jobs, signal } = call.asked
  const { now } = begun
  const threads = Math.max(1, Math.floor(threadsOf(config.threads) / jobs))
  const own = jobs === 1 ? config : { ...config, threads }
  const { onWarning, ...same } = workbenchOptions(call, now)
  const runner = await LocalRunner.open(own, { ...same, onWarning, signal })
  const settings = { config, threads, ...same, signal }
  const others = (entries: CompareResults['entries']) => {
    const count = fittingJobs(jobs, entries, process.availableMemory())
    return Array.from({ length: count - 1 }, () => new ChildRunner(settings))
  }
  try {
    return await carriedOut(begun, runner, others)
  } finally {
    await runner.close()
  }
}

/** The arguments of a compare, checked. */
interface CompareCall {
  config: RunConfig
  asked: CompareAsked
  metrics: readonly Metric[]
}

/** @throws {ConfigError} for an option out of range */
export function checkedCall(config: RunConfig, options: CompareOptions): CompareCall {
  if (!isRecord(config) || typeof config.model !== 'string' || !isRecord(config.strategy))
    throw badArgument(config, 'compare()', 'config', 'a config, as loadConfig() returns it')
  const asked = checkedOptions(compareSchema, options, 'compare()')
  if (!taskRules(config.task).runs.compared)
    throw badValue(
      { name: 'compare()', spelling: 'snake' },
      'task',
      config.task,
      `${tasksWhere(({ runs }) => runs.compared).join(' or ')}: strategies are compared by the loss of the next token`,
    )
  const strategies = readEntries(asked.strategies)
  checkOwn(contestants(strategies, config.strategy), asked.equal)
  const metrics = metricsOf(asked.metrics)
  marginsOf(asked.margin, metrics)
  return { config, asked: { ...asked, strategies }, metrics }
}

/** A compare whose output folder has been looked at. */
interface Begun extends CompareCall {
  folder: string
  /** Results to resume from. */
  earlier: CompareResults | undefined
  /** The same if all of them are there. */
  finished: CompareResults | undefined
  /** Current time as seen by chat templates, ms since 1970: that of the start. */
  now: number
}

/** @throws {ConfigError} for a folder that has other results, or none to resume */
export async function begin({ config, asked, metrics }: CompareCall): Promise<Begun> {
  const folder = resolve(asked.outputDir ?? `${config.outputDir}-compare`)
  const earlier = await earlierResults(folder, asked)
  await checkFolder(folder)
  checkJobs(asked.jobs, metrics)
  const finished = earlier !== undefined && isComplete(earlier) ? earlier : undefined
  if (earlier !== undefined && earlier.version !== VERSION && finished === undefined)
    throw new ConfigError(
      `compare: ${resultsPath(folder)} was begun by an earlier version, which chose rates and rows in another way, so it cannot be continued. Start again with --force, or name another folder with --output (force, outputDir).`,
      { path: resultsPath(folder), version: earlier.version },
    )
  if (finished !== undefined)
    checkSame(finished, { asked: identityOf(config, asked, metrics), settings: settingsOf(config) })
  const now = earlier === undefined ? Date.now() : Date.parse(earlier.created)
  return { config, asked, metrics, folder, earlier, finished, now }
}

/** Options of the workbench of a compare. */
export function workbenchOptions(
  { asked, metrics }: CompareCall,
  now: number,
): Omit<WorkbenchOptions, 'signal'> {
  const { validationRows, testRows, trainShare, onEvent } = asked
  const onWarning = (message: string) => onEvent?.({ event: 'warning', message })
  return { validationRows, testRows, generalRows: null, trainShare, metrics, now, onWarning }
}

/** Computes the statistics of a finished compare again. */
export async function concludedAgain(
  { folder, asked }: Begun,
  finished: CompareResults,
): Promise<CompareResults> {
  const lock = await lockRun(folder)
  try {
    return await concluded(finished, folder, asked)
  } finally {
    lock.release()
  }
}

/**
 * Runs a compare to its end.
 * @param others makes runners beside `runner`, as many as the entries leave memory for
 */
export async function carriedOut(
  { config, asked, metrics, folder, earlier }: Begun,
  runner: LocalRunner,
  others: (entries: CompareResults['entries']) => Runner[],
): Promise<CompareResults> {
  await makeFolder(folder)
  const lock = await lockRun(folder)
  try {
    const sideBySide = (entries: CompareResults['entries']) => 1 + others(entries).length
    // An earlier compare may have been killed.
    await removeLeftovers(folder)
    const results = await prepared(config, asked, metrics, runner.workbench, earlier, sideBySide)
    results.command = asked.command ?? results.command
    const beside = others(results.entries)
    asked.onEvent?.({ event: 'plan', jobs: 1 + beside.length, results })
    await writeResults(folder, results)
    try {
      await runAll(results, [...beside, runner], folder, asked)
    } finally {
      await Promise.all(beside.map((other) => other.close()))
    }
    return await concluded(results, folder, asked)
  } finally {
    lock.release()
  }
}

/** Writes the statistics and the page once all cells are finished. */
async function concluded(
  results: CompareResults,
  folder: string,
  { margin, onEvent }: CompareAsked,
): Promise<CompareResults> {
  const margins = marginsOf(margin, results.metrics, results.margins)
  const whole = sealed({
    ...judgedAgain(withMargins(results, margins)),
    finished: results.finished ?? new Date().toISOString(),
  })
  await writeResults(folder, whole)
  const { writePage } = await import('./page.js')
  await writePage(folder, whole)
  onEvent?.({ event: 'done', path: resultsPath(folder), results: whole })
  return whole
}

/** The results to resume from, if resuming. */
async function earlierResults(
  folder: string,
  { resume, force }: CompareAsked,
): Promise<CompareResults | undefined> {
  const file = resultsPath(folder)
  if (resume) {
    if (existsSync(file)) return readResults(folder)
    throw new ConfigError(
      `compare: there is nothing to resume: ${file} does not exist. Leave resume out to begin.`,
      { path: file },
    )
  }
  if (!force) checkFiles(folder, file)
  return undefined
}

/** @throws {ConfigError} for results of a compare, or other files in their place */
function checkFiles(folder: string, file: string): void {
  if (existsSync(file) && isCompare(file))
    throw new ConfigError(
      `compare: ${file} has the results of a compare; continue it with --resume, replace it with --force, or name another folder with --output (resume, force, outputDir).`,
      { path: file },
    )
  // The page of a compare comes with its results.
  const others = [file, join(folder, PAGE)].filter((path) => existsSync(path))
  if (others.length > 0)
    throw new ConfigError(
      `compare: ${others.join(' and ')} would be overwritten, but no compare wrote it. Name another folder with --output, rename it, or use --force to replace it (outputDir, force).`,
      { files: others },
    )
}

/** Runs the missing tasks and writes each result as soon as it is available. */
async function runAll(
  results: CompareResults,
  runners: readonly Runner[],
  folder: string,
  { signal, onEvent }: CompareAsked,
): Promise<void> {
  const free = [...runners]
  const running = new Map<string, Promise<void>>()
  const underWay = new Map<string, CompareTask>()
  const keeper = new BudgetKeeper(results, runners.length)
  try {
    await schedule()
  } catch (error) {
    for (const runner of runners) runner.abandon?.(error)
    throw error
  } finally {
    // Wait for all runs, since their models must not be freed while in use.
    await Promise.allSettled(running.values())
  }

  async function schedule() {
    for (;;) {
      signal?.throwIfAborted()
      keeper.cut(results, [...underWay.values()])
      const tasks = pendingTasks(results)
      const [task] = tasks.filter((one) => !running.has(canonical(one)))
      if (tasks.length === 0 && running.size === 0) return
      const runner = task === undefined ? undefined : free.pop()
      if (task === undefined || runner === undefined) {
        await Promise.race(running.values())
        continue
      }
      onEvent?.({ event: 'begin', task, ...progressOf(results) })
      const key = canonical(task)
      const begun = performance.now()
      const work = runner.run(task, results).then(async (outcome) => {
        record(results, task, outcome)
        keeper.note(task, results, (performance.now() - begun) / 1000)
        await writeResults(folder, results)
        if (outcome.kind === 'rung') {
          const { name, seed, rate } = task as Extract<CompareTask, { kind: 'rung' }>
          onEvent?.({
            event: 'rung',
            name,
            seed,
            rate,
            steps: outcome.rung.steps,
            loss: outcome.rung.loss,
            results,
          })
        } else onEvent?.({ event: 'cell', id: outcome.cell.id, results })
      })
      underWay.set(key, task)
      running.set(
        key,
        work.finally(() => {
          running.delete(key)
          underWay.delete(key)
          free.push(runner)
        }),
      )
    }
  }
}

/** Tasks that can run now: seed by seed, the current rung of all entries before any next one, then cells. */
export function pendingTasks({ entries, plan, seeds }: CompareResults): CompareTask[] {
  return seeds.flatMap((seed): CompareTask[] => {
    const rungs: (CompareTask & { kind: 'rung' })[] = []
    const cells: CompareTask[] = []
    for (const entry of entries) {
      const { name } = entry
      const search = searchOf(entry, seed)
      if (search.chosen === null) {
        const next = nextRungs(search, plan.rungs)
        if (next.length === 0) chooseRate(search, plan.rungs)
        rungs.push(...next.map((one) => ({ kind: 'rung' as const, name, seed, ...one })))
      }
      if (search.chosen !== null && entry.cells.every((cell) => cell.seed !== seed))
        cells.push({ kind: 'cell', name, seed })
    }
    return [...rungs.toSorted((a, b) => a.rung - b.rung), ...cells]
  })
}

/** Number of finished runs, and of all runs in the compare. */
function progressOf({ entries, seeds, plan }: CompareResults): { done: number; total: number } {
  let [done, total] = [0, 0]
  for (const { searches, cells } of entries) {
    for (const { rates, chosen } of searches) {
      const made = rates.reduce((sum, { rungs }) => sum + rungs.length, 0)
      done += made
      total += chosen === null ? Math.max(made, searchRuns(rates.length, plan.rungs.length)) : made
    }
    done += cells.length
    total += seeds.length
  }
  return { done, total }
}

function record(results: CompareResults, task: CompareTask, outcome: Outcome): void {
  const entry = results.entries.find(({ name }) => name === task.name)
  if (entry === undefined) return
  if (outcome.kind === 'rung') {
    const { seed, rate } = task as Extract<CompareTask, { kind: 'rung' }>
    addRung(searchOf(entry, seed), rate, outcome.rung)
    return
  }
  entry.cells.push(outcome.cell)
  entry.cells.sort((a, b) => results.seeds.indexOf(a.seed) - results.seeds.indexOf(b.seed))
}
