/** `lowrank figures NAME`: runs a study and draws a figure as in papers, as SVG and JSON. */
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { type Command, InvalidArgumentError } from 'commander'
import { packageRoot } from '../core/root.js'
import { writeFileWhole } from '../io/atomic.js'
import { checkFolder, makeFolder } from '../io/atomic-folder.js'
import { measuredBars, memoryChart, methodOf, plannedBars } from '../laboratory/memory.js'
import { figureSvg } from '../laboratory/pictures.js'
import {
  type CanaryStudy,
  canary,
  canaryChart,
  privacyUtility,
  privacyUtilityChart,
  type StudyControl,
  type UtilityStudy,
} from '../laboratory/privacy.js'
import { SHAPES } from '../laboratory/shapes.js'
import { STUDIES } from '../laboratory/studies/index.js'
import { type Study, StudyBench } from '../laboratory/study.js'
import { sst2, TASKS, type Task, type TaskSize } from '../laboratory/tasks.js'
import type { Model } from '../model/model.js'
import { asInFiles } from '../train/config-schema.js'
import { InterruptedError, UsageError } from './errors.js'
import { examples, integerFlag, names, numberFlag, onlyOwnFlags } from './help.js'
import { Interruption } from './interrupt.js'
import { columnsFor } from './live-lines.js'
import { barData, type MemoryOptions, memoryFlags, memorySettings, memoryTable } from './memory.js'
import { Output } from './output.js'
import { shown } from './progress.js'
import type { Printed } from './schemas.js'
import { loadShown } from './subject.js'

interface Options extends MemoryOptions {
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
  shapes: string[]
  dataset: string
  evalDataset: string
  steps?: number
  force?: boolean
  json?: boolean
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
  memory: async (options, signal, output) => {
    const settings = memorySettings(options)
    const methods = options.methods.map((name) => methodOf(name, settings.rank))
    // Plan first, which takes no time, so that an invalid shape is reported before anything is measured.
    const shapes = await plannedBars(options.shapes, methods, settings)
    const here = await shown(output, 'Measuring', (line) =>
      measuredBars(options.model, methods, settings, {
        signal,
        onMethod: (method, done, total) => line.update(`${done + 1} of ${total}: ${method}`, done / total),
      }),
    )
    const bars = [...here, ...shapes]
    return {
      data: { name: 'memory', settings: asInFiles(settings), bars: bars.map(barData) },
      svg: memoryChart(bars, settings),
      reading: memoryTable(here, columnsFor(output.stdout)),
    }
  },
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
  memory: [
    ...['model', 'output', 'force', 'shapes', 'methods', 'rank', 'batch', 'seqLen'],
    ...['gradientCheckpointing', 'precision'],
  ],
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

export function configure(command: Command): void {
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
  command.option(
    '--seeds <N>',
    'except memory: runs per point (default: 3, privacy-utility 2)',
    integerFlag(1),
  )
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
  memoryFlags(command, 'memory: ', 'memory: ')
  command.option(
    '--shapes <names>',
    'memory: more models to plan, separated by commas: well-known names, or paths of a config.json, a model folder, or a .gguf file',
    shapeNames,
    ['Llama-2-7B', 'Llama-2-13B', 'Qwen2.5-32B', 'Llama-3.1-70B'],
  )
  command.option(
    '--clipping-norm <norm>',
    'privacy-utility, canary: L2 norm to which contributions are clipped',
    numberFlag(0, 1e6),
    2,
  )
  examples(command, [
    'lowrank figures privacy-utility',
    'lowrank figures privacy-utility --task reviews,wards,sst2:data/SST-2',
    'lowrank figures memory --model model.gguf --seq-len 512',
    'lowrank figures memory --shapes Llama-3.1-8B,models/mine/config.json',
    'lowrank figures dylora-ranks --seeds 5',
    'lowrank figures canary --clients 400 --cohort 40 --epsilons 2,8',
  ])
  command.action(async (name: string | undefined, options: Options) => {
    const output = new Output(options.json ?? false)
    const known = Object.keys(FIGURES).join(', ')
    if (name === undefined) throw new UsageError(`name a figure, one of ${known}.`)
    const figure = FIGURES[name]
    if (figure === undefined)
      throw new UsageError(`figure '${name}' does not exist; expected one of ${known}.`)
    onlyOwnFlags(command, `lowrank figures ${name}`, FLAGS[name] as readonly string[])
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
      const answer = { ...data, files } as Printed<'figures'>
      await makeFolder(options.output)
      await writeFileWhole(files[0] as string, svg)
      await writeFileWhole(files[1] as string, `${JSON.stringify(answer, null, 2)}\n`)
      output.answer<'figures'>(answer, () => [reading, '', ...files].join('\n'))
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

function shapeNames(text: string): string[] {
  const list = [...new Set(names(text))]
  const unknown = list.find((name) => !SHAPES.has(name) && !existsSync(name))
  if (unknown === undefined) return list
  throw new InvalidArgumentError(
    `There is no '${unknown}'; expected the path of a config.json or a model folder, or some of ${[...SHAPES.keys()].join(', ')}.`,
  )
}

function numbers(text: string): number[] {
  const found = text.split(',').map(Number)
  if (found.every((value) => value > 0 && Number.isFinite(value))) return found
  throw new InvalidArgumentError('Expected numbers above 0 separated by commas, as in 1,2,8.')
}
