/**
 * `lowrank compare CONFIG` compares strategies on one model and dataset, with statistics; `compare RESULTS`
 * prints saved results again; `compare verify` repeats cells of a comparison; `compare RUN RUN…` compares
 * finished runs.
 */
import { statSync } from 'node:fs'
import type { Command } from 'commander'
import { InvalidArgumentError, Option } from 'commander'
import type { CompareEvent, CompareOptions } from '../compare/index.js'
import {
  compareOn,
  isCompare,
  type Margin,
  METRIC_NAMES,
  resultsPath,
  reviewed,
  unequalSizes,
  verifyOn,
} from '../compare/index.js'
import { type CompareResults, EQUALITIES, type Equality } from '../compare/results.js'
import { shellWord } from '../core/system.js'
import { loadConfig } from '../train/config/config.js'
import { Processes } from '../train/processes/processes.js'
import { finishedRuns } from './compare-runs.js'
import { compareText } from './compare-table.js'
import { InterruptedError, UsageError } from './errors.js'
import { counted, formatDuration, secondsIn, shortPath } from './format.js'
import { collect, examples, integerFlag, names, notedOn, numberFlag, onlyOwnFlags } from './help.js'
import { Interruption, STOPPED } from './interrupt.js'
import { Output } from './output.js'
import { StatusLine, shown } from './progress.js'
import { amongRanks, noteRanks } from './ranks.js'

interface Options {
  strategies?: string[]
  all?: boolean
  output?: string
  seeds: number
  detect?: number
  equal: Equality
  budget?: number
  metrics: string[]
  margin?: Margin
  controls: boolean
  validationRows: number
  testRows?: number
  trainShare: number
  jobs: number
  cells?: number
  dataset?: string
  resume?: boolean
  force?: boolean
  set?: string[]
  json?: boolean
}

export function configure(command: Command): void {
  command.argument(
    '[config]',
    'a YAML or JSON file; or the results of a compare, or `verify` with them; or the output folder of a finished run',
  )
  command.argument(
    '[more...]',
    'verify: results.json, or its folder; finished runs: the other output folders',
  )
  command.option(
    '--strategies <list>',
    "names separated by commas, or all (default: lora, qlora, dora, lokr, and the config's own)",
    names,
  )
  command.option('--all', 'all strategies, and full fine-tuning')
  command.option('--output <folder>', 'folder for results.json (default: OUTPUT_DIR-compare)')
  command.option('--seeds <N>', 'searches and trainings of each strategy', integerFlag(1), 3)
  command.option(
    '--detect <N>',
    'instead of --seeds: enough seeds to find a difference of N standard deviations in 8 of 10 compares',
    numberFlag(0.1, 100),
  )
  command.addOption(
    new Option('--equal <what>', 'what is equal among strategies').choices(EQUALITIES).default('rank'),
  )
  command.option(
    '--budget <time>',
    'time that it may take, as in 10m or 3h; seeds and rates are cut to fit',
    seconds,
  )
  command.option('--metrics <list>', `metrics beside the loss: ${METRIC_NAMES.slice(1).join(', ')}`, names, [
    'exact_match',
  ])
  command.option(
    '--margin <size>',
    'difference that does not matter, for tests of equality: 0.02, or by metric: loss=0.02,exact_match=0.05',
    margin,
  )
  command.option('--no-controls', 'leave out controls, such as lora with a larger scale for delta-lora')
  command.option(
    '--validation-rows <N>',
    'training rows that each seed sets aside to choose rates',
    integerFlag(2),
    64,
  )
  command.option(
    '--test-rows <N>',
    'held-out rows that are measured, drawn by the seed (default: all)',
    integerFlag(2),
  )
  command.option(
    '--train-share <share>',
    'share of the training rows that each seed draws to train on',
    numberFlag(0.01, 1),
    1,
  )
  command.option(
    '--jobs <N>',
    'trainings side by side, each in a process with its share of the threads',
    integerFlag(1),
    1,
  )
  command.option('--cells <N>', 'verify: number of cells, drawn at random (default: all)', integerFlag(1))
  command.option('--dataset <path>', 'finished runs: rows to evaluate on (default: what all held out)')
  command.option('--resume', 'continue the compare in the output folder')
  command.option('--force', 'replace the results in the output folder')
  command.option(
    '--set <key=value>',
    'change a key of the config; verify: where the model or the data is now; may be repeated',
    collect,
  )
  examples(command, [
    'lowrank compare run.yaml --budget 10m',
    'lowrank compare run.yaml --strategies lora,dora,vera --budget 30m',
    'lowrank compare run.yaml --all',
    'lowrank compare run.yaml --seeds 10 --equal parameters --output compared',
    'lowrank compare run.yaml --resume',
    'lowrank compare run-compare --margin 0.02',
    'lowrank compare verify run-compare --cells 10',
    'lowrank compare out-lora out-dora',
  ])
  command.action(async (config: string | undefined, more: string[], options: Options) => {
    const output = new Output(options.json ?? false)
    const [other] = more
    if (config === 'verify') {
      onlyOwnFlags(command, 'lowrank compare verify', ['cells', 'set'])
      if (other === undefined) throw new UsageError('name the results: lowrank compare verify RESULTS.')
      if (more.length > 1) throw new UsageError(`${more[1]}: expected one file of results.`)
      await onRanks(options, (ranks, told) => verify(other, options, ranks, told))
      return
    }
    if (config === undefined) throw new UsageError('pass a config file, as in `lowrank compare run.yaml`.')
    if (other === undefined && isCompare(config)) {
      onlyOwnFlags(command, 'lowrank compare RESULTS', ['margin'])
      const results = await reviewed(config, options.margin ?? null)
      output.event<'compare'>({
        ...{ event: 'done', results: resultsPath(config), statistics: results.statistics },
      })
      output.text(compareText(results))
      return
    }
    if (isFolder(config) || (other !== undefined && isFolder(other))) {
      onlyOwnFlags(command, 'lowrank compare RUN RUN', ['dataset'])
      await finishedRuns([config, ...more], options.dataset, output)
      return
    }
    if (other !== undefined) throw new UsageError(`${other}: expected one config file, or folders of runs.`)
    if (options.cells !== undefined) throw new UsageError('--cells is a flag of `lowrank compare verify`.')
    if (options.dataset !== undefined)
      throw new UsageError('--dataset is a flag of `lowrank compare RUN RUN`; a config has its own.')
    const call = commandLine(command, config)
    await onRanks(options, (ranks, told) => run(config, options, call, ranks, told))
  })
}

function isFolder(path: string): boolean {
  return statSync(path, { throwIfNoEntry: false })?.isDirectory() ?? false
}

/** Joins ranks for the command alone: each training is that of one rank, as if there were no others. */
async function onRanks(
  { json = false }: Options,
  work: (ranks: Processes, output: Output) => Promise<void>,
): Promise<void> {
  await amongRanks('lowrank compare', json, work, () => Processes.join())
}

async function run(
  path: string,
  options: Options,
  call: string,
  ranks: Processes,
  output: Output,
): Promise<void> {
  const config = await loadConfig(path, options.set, notedOn(output))
  const { output: outputDir, detect, budget, testRows, strategies } = options
  const { seeds, equal, metrics, controls, validationRows, trainShare, jobs } = options
  const { all = false, resume = false, force = false } = options
  if (all && strategies !== undefined)
    throw new UsageError('--all and --strategies name what is compared; leave one of them out.')
  const interruption = new Interruption(output, 'Stopping; finished runs are kept.')
  const { signal } = interruption
  const progress = new Progress(output)
  const asked: CompareOptions = {
    ...{ seeds, equal, metrics, controls, validationRows, trainShare, jobs, resume, force, signal },
    strategies: all ? 'all' : (strategies ?? null),
    ...(outputDir === undefined ? {} : { outputDir }),
    ...{ detect: detect ?? null, budget: budget ?? null, testRows: testRows ?? null },
    margin: options.margin ?? null,
    command: `${call} --resume`,
    onEvent: (event) => progress.tell(event),
  }
  try {
    noteRanks(ranks, 'Comparing', output)
    const results = await compareOn(ranks, config, asked)
    if (results !== undefined) output.text(compareText(results))
  } catch (error) {
    if (error !== signal.reason && !ranks.isStop(error)) throw error
    const planned = await ranks.firsts('end of a compare', async () => progress.planned)
    const kept = planned ? `finished runs are kept. Continue with:\n  ${call} --resume` : 'no run had begun.'
    throw new InterruptedError(`stopped; ${kept}`, {
      command: planned ? `${call} --resume` : null,
    })
  } finally {
    progress.clear()
    interruption.dispose()
  }
}

/** Shows the progress of a comparison. */
class Progress {
  planned = false
  readonly #output: Output
  #line: StatusLine | undefined

  constructor(output: Output) {
    this.#output = output
  }

  tell(event: CompareEvent): void {
    const output = this.#output
    switch (event.event) {
      case 'warning':
        output.note(`note: ${event.message}`)
        return
      case 'preparing': {
        this.#line ??= new StatusLine(output, 'Measuring steps')
        this.#line.update(`${event.done + 1} of ${event.total}: ${event.what}`, event.done / event.total)
        return
      }
      case 'plan': {
        this.clear()
        this.planned = true
        this.#plan(event.results, event.jobs)
        this.#line = new StatusLine(output, 'Comparing')
        return
      }
      case 'begin': {
        const { task, done, total } = event
        const what =
          task.kind === 'rung'
            ? `${task.name}, seed ${task.seed}, at ${task.rate}, ${task.steps} steps`
            : `${task.name}, seed ${task.seed}`
        this.#line?.update(`${done + 1} of ${total}: ${what}`, done / total)
        return
      }
      case 'rung': {
        const { name, seed, rate, steps, loss } = event
        output.event<'compare'>({ event: 'rung', name, seed, rate, steps, loss })
        return
      }
      case 'cell': {
        const cell = event.results.entries.flatMap(({ cells }) => cells).find(({ id }) => id === event.id)
        const { loss = null } = cell?.metrics ?? {}
        output.event<'compare'>({ event: 'cell', id: event.id, loss, seconds: cell?.seconds ?? 0 })
        return
      }
      case 'done': {
        this.clear()
        const { statistics } = event.results
        output.event<'compare'>({ event: 'done', results: event.path, statistics })
        output.note(`Results: ${shortPath(event.path)}\n`)
      }
    }
  }

  clear(): void {
    this.#line?.clear()
    this.#line = undefined
  }

  #plan(results: CompareResults, jobs: number): void {
    const { entries, seeds, plan, left_out: leftOut } = results
    const output = this.#output
    output.event<'compare'>({
      ...{ event: 'plan', entries: entries.map(({ name }) => name), left_out: leftOut, seeds, ...plan },
    })
    const rates = entries.map(({ searches }) => searches[0]?.rates.length ?? 0)
    const most = Math.max(...rates)
    const search =
      most === 1
        ? 'at their default rates'
        : `a search over ${Math.min(...rates)}${Math.min(...rates) === most ? '' : ` to ${most}`} learning rates and a training`
    const each = entries[0]?.steps ?? 0
    output.note(
      `Comparing ${entries.map(({ name }) => name).join(', ')}: ${search} of ${counted(each, 'step')} with each of ${counted(seeds.length, 'seed')}, about ${formatDuration(plan.seconds)}${jobs === 1 ? '' : ` with ${jobs} side by side`}.`,
    )
    for (const cut of plan.cuts) output.note(`note: ${cut}.`)
    for (const remark of unequalSizes(results)) output.note(`note: ${remark}`)
    for (const { name, reason } of leftOut) output.note(`note: ${name} is left out: ${reason}`)
    if (plan.power !== null)
      output.note(
        `Of compares of this size, ${Math.round(100 * plan.power)} of 100 find a difference of two spreads; a spread is the standard deviation over seeds.`,
      )
  }
}

async function verify(
  path: string,
  { cells, set }: Options,
  ranks: Processes,
  output: Output,
): Promise<void> {
  const interruption = new Interruption(output, 'Stopping.')
  const { signal } = interruption
  try {
    noteRanks(ranks, 'Verifying', output)
    const found = await shown(output, 'Training again', (line) =>
      verifyOn(ranks, path, {
        ...{ cells: cells ?? null, overrides: set ?? [], signal },
        onCell: (cell, done, total) => {
          output.event<'compare'>({ event: 'verified', ...cell })
          const why = cell.difference === null ? '' : `  ${cell.difference}`
          output.text(`${cell.same ? 'same ' : 'OTHER'}  ${cell.id}  ${cell.found}${why}`)
          line.update(`${done} of ${total}`, done / total)
        },
      }),
    )
    if (found === undefined) return
    const { same, sameBinary, unrecorded } = found
    output.event<'compare'>({
      ...{ event: 'verification', same, cells: found.cells.length, same_binary: sameBinary, unrecorded },
    })
    const others = found.cells.filter((cell) => !cell.same).length
    const build = sameBinary ? '' : ', by another build of the addon'
    output.text(
      same
        ? `${counted(found.cells.length, 'cell')}, all with the same hash${build}`
        : `${others} of ${counted(found.cells.length, 'cell')} have another hash${build}`,
    )
    if (unrecorded !== null) output.note(`note: the results do not record this: ${unrecorded}`)
    if (!same) process.exitCode = 1
  } catch (error) {
    throw ranks.isStop(error) ? new InterruptedError(STOPPED) : error
  } finally {
    interruption.dispose()
  }
}

/** The command with the given flags, without those for starting or resuming. */
function commandLine(command: Command, config: string): string {
  const flags = command.options.flatMap((option) => {
    const name = option.attributeName()
    const value = command.getOptionValue(name) as unknown
    if (command.getOptionValueSource(name) !== 'cli' || UNREPEATED.has(name)) return []
    if (typeof value === 'boolean') return option.negate === !value ? [option.long as string] : []
    if (name === 'set') return (value as string[]).map((one) => `--set ${shellWord(one)}`)
    const text = WRITTEN[name]?.(value as never) ?? (Array.isArray(value) ? value.join() : String(value))
    return [`${option.long} ${shellWord(text)}`]
  })
  return ['npx lowrank compare', shellWord(config), ...flags].join(' ')
}

/** Flags that are written in another way than their value. */
const WRITTEN: Record<string, (value: never) => string> = {
  budget: (seconds: number) => `${seconds}s`,
  margin: marginText,
}

const UNREPEATED = new Set(['resume', 'force', 'json', 'cells'])

/** A number, or numbers by metric. */
function margin(text: string): Margin {
  const pairs = text.split(',').map((part) => part.split('=').map((word) => word.trim()))
  const sizes = pairs.map((pair) => (pair.at(-1) === '' ? Number.NaN : Number(pair.at(-1))))
  const isOne = pairs.length === 1 && pairs[0]?.length === 1
  if (
    !sizes.every((size) => size >= 0 && size < Infinity) ||
    !(isOne || pairs.every(({ length }) => length === 2))
  )
    throw new InvalidArgumentError(
      'Expected a number from 0, as in 0.02, or numbers by metric, as in loss=0.02,exact_match=0.05.',
    )
  return isOne ? (sizes[0] as number) : Object.fromEntries(pairs.map(([name], i) => [name, sizes[i]]))
}

function marginText(value: Margin): string {
  if (typeof value === 'number') return String(value)
  return Object.entries(value)
    .map(([name, size]) => `${name}=${size}`)
    .join()
}

function seconds(text: string): number {
  const value = secondsIn(text)
  if (value !== undefined) return value
  throw new InvalidArgumentError('Expected a time above 0 in seconds, or with a unit, as in 90s, 30m, or 3h.')
}
