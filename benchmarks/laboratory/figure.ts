/** The program of figure.mjs: runs a study and draws its figure as in papers, as SVG and JSON. */
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { Command, CommanderError, InvalidArgumentError } from 'commander'
import { figureSvg } from '../../lib/bench/pictures.js'
import { InterruptedError, reportError, UsageError } from '../../lib/cli/errors.js'
import { integerFlag, names, numberFlag, onlyOwnFlags } from '../../lib/cli/help.js'
import { Interruption } from '../../lib/cli/interrupt.js'
import { Output } from '../../lib/cli/output.js'
import { shown } from '../../lib/cli/progress.js'
import { loadShown } from '../../lib/cli/subject.js'
import { packageRoot } from '../../lib/core/root.js'
import { writeFileWhole } from '../../lib/io/atomic.js'
import { checkFolder, makeFolder } from '../../lib/io/atomic-folder.js'
import type { Model } from '../../lib/model/model.js'
import { asInFiles } from '../../lib/train/config/config-schema.js'
import {
  type CanaryStudy,
  canary,
  canaryChart,
  privacyUtility,
  privacyUtilityChart,
  type StudyControl,
  type UtilityStudy,
} from './privacy.js'
import { STUDIES } from './studies/index.js'
import { type Study, StudyBench } from './study.js'
import { sst2, TASKS, type Task, type TaskSize } from './tasks.js'

interface Options {
  model: string
  output: string
  task: string[]
  epsilons?: number[]
  seeds?: number
  rounds?: number
  cohort: number
  clients: number
  testRows: number
  population: number
  populationCohort: number
  localEpochs: number
  learningRate: number
  clippingNorm: number
  dataset: string
  evalDataset: string
  steps?: number
  force?: boolean
}

/** Output of a figure: its data, its picture, and text for people. */
interface Drawn {
  data: Record<string, unknown>
  svg: string
  reading: string
}
type Figure = (options: Options, signal: AbortSignal, output: Output) => Promise<Drawn>

const FIGURES: Readonly<Record<string, Figure>> = {
  ...Object.fromEntries(Object.entries(STUDIES).map(([name, study]) => [name, ofStrategies(name, study)])),
  'privacy-utility': onModel(async (model, options, control) => {
    const { population, populationCohort, localEpochs } = options
    const study = await privacyUtility(
      model,
      await tasksOf(options),
      {
        ...settingsOf(options, { epsilons: [1, 8], seeds: 2, rounds: 60 }),
        localEpochs,
        simulation: { population, cohort: populationCohort },
      },
      control,
    )
    return [study, privacyUtilityChart(study)]
  }),
  canary: onModel(async (model, options, control) => {
    const usual = { epsilons: [1, 2, 4, 8], seeds: 3, rounds: 30 }
    const study = await canary(model, { ...settingsOf(options, usual), rows: options.clients }, control)
    return [study, canaryChart(study)]
  }),
}

const STUDY = ['model', 'output', 'force', 'dataset', 'evalDataset', 'steps', 'seeds']

const CANARY = [
  'model',
  'output',
  'force',
  'epsilons',
  'seeds',
  'rounds',
  'cohort',
  'clients',
  'learningRate',
  'clippingNorm',
]

/** Names of the flags of each figure. */
const FLAGS: Readonly<Record<string, readonly string[]>> = {
  canary: CANARY,
  'privacy-utility': [...CANARY, 'task', 'population', 'populationCohort', 'localEpochs', 'testRows'],
  ...Object.fromEntries(Object.keys(STUDIES).map((name) => [name, STUDY])),
}

/** A figure that compares strategies, from runs on a model. */
function ofStrategies(name: string, study: Study): Figure {
  return async (options, signal, output) => {
    const { dataset, evalDataset, seeds = 3, steps = study.steps } = options
    const model = await loadShown(options.model, { signal }, output)
    try {
      return await shown(output, 'Training', async (line) => {
        const total = study.runs(seeds)
        const bench = new StudyBench(model, {
          ...{ train: dataset, test: evalDataset, steps, seeds, signal },
          onRun: (run, done) => line.update(`${done + 1} of ${total}: ${run}`, done / total),
        })
        const found = await study.run(bench)
        const reading = `${found.reading} ${bench.about}`
        const settings = { model: model.path, dataset, eval_dataset: evalDataset, steps, seeds }
        const svg = figureSvg(found.chart, found.title, [bench.about, found.key])
        return { data: { name, settings, rows: found.rows, reading }, svg, reading }
      })
    } finally {
      await model.dispose()
    }
  }
}

/** A figure from runs on a model. */
function onModel(
  study: (
    model: Model,
    options: Options,
    control: StudyControl,
  ) => Promise<[UtilityStudy | CanaryStudy, svg: string]>,
): Figure {
  return async (options, signal, output) => {
    const model = await loadShown(options.model, { signal }, output)
    try {
      const [found, svg] = await shown(output, 'Training', (line) =>
        study(model, options, {
          signal,
          onRun: (run, done, total) => line.update(`${done + 1} of ${total}: ${run}`, done / total),
        }),
      )
      return { data: { ...found, settings: asInFiles(found.settings) }, svg, reading: found.reading }
    } finally {
      await model.dispose()
    }
  }
}

function configure(command: Command): void {
  command.argument('[name]', `name of the figure: ${Object.keys(FIGURES).join(', ')}`)
  command.option('--model <path>', 'the model to tune', join(packageRoot, 'demo', 'base'))
  command.option('--output <folder>', 'folder for NAME.svg and NAME.json', 'figures')
  command.option('--force', 'replace existing files')
  const demo = (file: string) => join(packageRoot, 'demo', file)
  command.option('--dataset <path>', 'figures of strategies: data to train on', demo('train.jsonl'))
  command.option('--eval-dataset <path>', 'figures of strategies: held-out data', demo('test.jsonl'))
  command.option('--steps <N>', 'figures of strategies: steps per run (default: by figure)', integerFlag(1))
  command.option(
    '--task <list>',
    `privacy-utility: tasks, a panel each: ${Object.keys(TASKS).join(', ')}, or sst2:FOLDER with train.tsv and dev.tsv`,
    names,
    Object.keys(TASKS),
  )
  command.option(
    '--epsilons <list>',
    'privacy-utility, canary: privacy budgets, separated by commas (default: 1,8, canary 1,2,4,8)',
    numbers,
  )
  command.option('--seeds <N>', 'runs per point (default: 3, privacy-utility 2)', integerFlag(1))
  command.option(
    '--rounds <N>',
    'privacy-utility, canary: rounds per run (default: 60, canary 30)',
    integerFlag(1),
  )
  command.option(
    '--cohort <N>',
    'privacy-utility, canary: clients (canary: rows) per round',
    integerFlag(1),
    8,
  )
  command.option(
    '--clients <N>',
    'privacy-utility, canary: clients (canary: rows) of the task',
    integerFlag(2),
    120,
  )
  command.option(
    '--population <N>',
    'privacy-utility: population that the noise is computed for',
    integerFlag(2),
    100_000,
  )
  command.option(
    '--population-cohort <N>',
    'privacy-utility: clients sampled from the population per round',
    integerFlag(1),
    100,
  )
  command.option('--local-epochs <N>', 'privacy-utility: passes of a client over its rows', integerFlag(1), 3)
  command.option('--test-rows <N>', 'privacy-utility: held-out rows', integerFlag(1), 100)
  command.option('--learning-rate <rate>', 'privacy-utility, canary: learning rate', numberFlag(0, 10), 3e-3)
  command.option(
    '--clipping-norm <norm>',
    'privacy-utility, canary: L2 norm to which contributions are clipped',
    numberFlag(0, 1e6),
    2,
  )
  command.action(async (name: string | undefined, options: Options) => {
    const output = new Output(false)
    const known = Object.keys(FIGURES).join(', ')
    if (name === undefined) throw new UsageError(`name a figure, one of ${known}.`)
    const figure = FIGURES[name]
    if (figure === undefined)
      throw new UsageError(`figure '${name}' does not exist; expected one of ${known}.`)
    onlyOwnFlags(command, `figure.mjs ${name}`, FLAGS[name] as readonly string[])
    const files = ['svg', 'json'].map((kind) => join(options.output, `${name}.${kind}`))
    const taken = files.find((file) => existsSync(file))
    if (taken !== undefined && !options.force)
      throw new UsageError(
        `${taken} exists; name another folder with --output, or replace the figure with --force.`,
        { path: taken },
      )
    await checkFolder(options.output)
    const interruption = new Interruption(output, 'Stopping; nothing is drawn.')
    const { signal } = interruption
    try {
      const { data, svg, reading } = await figure(options, signal, output)
      await makeFolder(options.output)
      await writeFileWhole(files[0] as string, svg)
      await writeFileWhole(files[1] as string, `${JSON.stringify({ ...data, files }, null, 2)}\n`)
      output.text([reading, '', ...files].join('\n'))
    } catch (error) {
      if (!signal.aborted) throw error
      throw new InterruptedError('stopped; nothing was drawn.', { step: 0, checkpoint: null })
    } finally {
      interruption.dispose()
    }
  })
}

function settingsOf(options: Options, usual: { epsilons: number[]; seeds: number; rounds: number }) {
  const { epsilons, seeds, rounds } = { ...usual, ...options }
  const { cohort, learningRate, clippingNorm } = options
  return { epsilons, seeds, rounds, cohort, learningRate, clippingNorm }
}

async function tasksOf({ task: list, clients, testRows }: Options): Promise<Task[]> {
  const size: TaskSize = { clients, rowsPerClient: 8, testRows }
  const unknown = list.find((name) => !(name in TASKS) && !/^sst2:./.test(name))
  if (unknown !== undefined)
    throw new UsageError(
      `--task ${unknown}: expected some of ${Object.keys(TASKS).join(', ')}, or sst2:FOLDER.`,
    )
  return Promise.all(
    [...new Set(list)].map(
      async (name) => TASKS[name]?.(size, 0) ?? sst2(name.slice('sst2:'.length), size, 0),
    ),
  )
}

function numbers(text: string): number[] {
  const found = text.split(',').map(Number)
  if (found.every((value) => value > 0 && Number.isFinite(value))) return found
  throw new InvalidArgumentError('Expected numbers above 0 separated by commas, as in 1,2,8.')
}

/** Runs a command line, and sets the exit code of the process as lowrank does. */
export async function main(args: readonly string[]): Promise<void> {
  const command = new Command('figure.mjs').exitOverride().configureOutput({ writeErr: () => undefined })
  configure(command)
  try {
    await command.parseAsync([...args], { from: 'user' })
  } catch (error) {
    if (error instanceof CommanderError && error.exitCode === 0) return
    process.exitCode = reportError(error, new Output(false), 'figure.mjs')
  }
}
