/**
 * `lowrank train CONFIG`: one run from a config file. Progress is shown as it happens, as JSON lines on stdout
 * or as text on stderr; Ctrl-C saves a checkpoint and prints how to resume.
 */

import { basename } from 'node:path'
import type { Command } from 'commander'
import { InternalError } from '../core/errors.js'
import { shellWord } from '../core/system.js'
import type { EncodeProgress } from '../data/encode-dataset.js'
import type { Model } from '../model/model.js'
import { addon } from '../native/addon.js'
import { remarksForOthers } from '../peft/other-programs.js'
import { rulesOf } from '../strategies/index.js'
import type { StrategyConfig } from '../strategies/strategy.js'
import type { Resumable } from '../train/checkpoints/checkpoint-folder.js'
import { resumedStrategy } from '../train/checkpoints/state-file.js'
import { loadConfig, loadQuantization, type RunConfig, trainOptions } from '../train/config/config.js'
import { configText } from '../train/config/config-schema.js'
import { withLabels } from '../train/config/labels.js'
import { checkRun, memorySettings } from '../train/config/preflight.js'
import { checkSplit, onSplit } from '../train/config/split.js'
import { foldersOf, saveConfig } from '../train/folders/output-folder.js'
import type { SampleProgress } from '../train/objectives/policy.js'
import type { Processes } from '../train/processes/processes.js'
import { lineOf } from '../train/records/metrics-file.js'
import { prepareData } from '../train/rows/data.js'
import { agreeOnFolder } from '../train/run/agreement.js'
import type { TrainingRun } from '../train/run/run.js'
import type { EvaluateProgress } from '../train/steps/evaluate.js'
import type { DoneEvent, TrainEvent, TrainStep } from '../train/steps/events.js'
import { InterruptedError, UsageError } from './errors.js'
import { formatCount } from './format.js'
import { collect, examples, notedOn } from './help.js'
import { Interruption } from './interrupt.js'
import { type LiveRun, noteOpen, openLive, serveFlags } from './live.js'
import type { Output } from './output.js'
import { StatusLine } from './progress.js'
import { amongRanks, noteRanks } from './ranks.js'
import { withGraders } from './rewards.js'
import { loadShown } from './subject.js'
import { deviceFor } from './train-device.js'
import { askedShown, conclude, stopped } from './train-end.js'
import {
  noteContext,
  noteData,
  noteHeldOut,
  noteKernels,
  notePaging,
  notePrivacy,
  noteShortage,
  noteTemplate,
  noteTime,
  plannedOn,
} from './train-notes.js'
import { TrainProgress } from './train-progress.js'
import { rateOf } from './train-rate.js'
import { checkFits } from './train-room.js'

interface Options {
  set?: string[]
  resume?: string | true
  force?: boolean
  json?: boolean
  live?: boolean
  port?: number
  host?: string
}

export function configure(command: Command): void {
  command.argument('[config]', 'a YAML or JSON file')
  command.option('--set <key=value>', 'change a key of the config; may be repeated', collect)
  command.option(
    '--resume [checkpoint]',
    'continue from the newest checkpoint in output_dir, or from the given one',
  )
  command.option(
    '--force',
    'replace the results of an earlier run in output_dir, and train where memory is far too small',
  )
  command.option('--live', 'serve a page that shows the run and controls it, and print its URL')
  serveFlags(command)
  examples(command, [
    'lowrank train run.yaml',
    'lowrank train run.yaml --live',
    'lowrank train run.yaml --set learning_rate=1e-4 --set strategy.r=32',
    'lowrank train run.yaml --resume',
  ])
  command.action(async (given: string | undefined, options: Options) => {
    await amongRanks('lowrank train', options.json ?? false, (ranks, output) =>
      trainGiven(given, options, ranks, output),
    )
  })
}

async function trainGiven(
  given: string | undefined,
  options: Options,
  ranks: Processes,
  output: Output,
): Promise<void> {
  const [path, resume] = configAndCheckpoint(given, options.resume)
  checkLiveFlags(options)
  const read = await loadConfig(path, options.set, notedOn(output))
  const call = configCall(path, options.set ?? [])
  const interruption = new Interruption(output, 'Finishing this step, then saving a checkpoint.')
  let live: LiveRun | undefined
  try {
    const { signal } = interruption
    const force = options.force ?? false
    if (!ranks.isAlone) await agreeOnFolder(ranks, read.outputDir)
    const checkpoint = await checkRun(read, { resume, force, signal, writes: ranks.isFirst })
    const config = await withLabels(read)
    if (!ranks.isAlone) checkSplit(config)
    if (checkpoint !== null) noteResumed(checkpoint, output)
    if (options.live && ranks.isFirst) live = await openedLive(config, options, output)
    noteRanks(ranks, config.split === 'layers' ? 'Training layers' : 'Training', output)
    await train(config, { checkpoint, force, call, interruption, live, ranks }, output)
  } finally {
    await live?.close()
    interruption.dispose()
  }
}

/** `train --resume run.yaml` looks like a config, but the flag parses it as a checkpoint. */
function configAndCheckpoint(
  path: string | undefined,
  resume: string | true | undefined,
): [config: string, resume: string | boolean] {
  if (path !== undefined) return [path, resume ?? false]
  if (typeof resume === 'string') return [resume, true]
  throw new UsageError('pass a config file, as in `lowrank train run.yaml`.')
}

function checkLiveFlags({ live, port, host }: Options): void {
  if (live || (port === undefined && host === undefined)) return
  throw new UsageError(
    `--${port === undefined ? 'host' : 'port'} is of the page that --live serves; add --live.`,
  )
}

async function openedLive(config: RunConfig, options: Options, output: Output): Promise<LiveRun> {
  const { port, host } = options
  const live = await openLive(foldersOf(config.outputDir, config.strategy), {
    ...(port === undefined ? {} : { port }),
    ...(host === undefined ? {} : { host }),
  })
  noteOpen(options, output)
  output.event<'train'>({ event: 'live', url: live.url })
  output.note(`Live page: ${live.url}`)
  return live
}

function noteResumed({ path, damaged }: Resumable, output: Output): void {
  for (const { path: broken, damage } of damaged) output.note(`note: ${broken} cannot be used: ${damage}.`)
  output.note(`Resuming from ${path}.`)
}

/** How a run is made. */
export interface Call {
  /** Checkpoint to resume from. */
  checkpoint: Resumable | null
  /** True if the run may replace the result of an earlier one, and be far too large for the memory. */
  force: boolean
  /** The config and its overrides, as on a command line. */
  call: string
  interruption: Pick<Interruption, 'signal' | 'promise'>
  live: Pick<LiveRun, 'begin'> | undefined
  ranks: Processes
}

/** Trains, showing progress; `lowrank mcp` has jobs do the same. */
export async function train(
  given: RunConfig,
  { checkpoint, force, call, interruption, live, ranks }: Call,
  output: Output,
): Promise<void> {
  const { signal } = interruption
  const { rss: nodeBytes } = addon().residentBytes()
  const rewardFunctions = await withGraders(given.rewardFunctions)
  const config = { ...(ranks.isAlone ? given : onSplit(given)), rewardFunctions }
  const { precision, pagedWeights, threads, revision, split } = config
  const device = await deviceFor(config, ranks.place, output, signal)
  if (!force) await checkFits(config, { device, ranks, call, signal })
  output.note(`Loading ${config.model}`)
  const model = await loadShown(
    config.model,
    {
      ...{ ...loadQuantization(config), precision, pagedWeights, device, threads, revision, split, signal },
      ...(config.labels === null ? {} : { labels: config.labels }),
    },
    output,
  )
  try {
    const { dataset, evalDataset, evalFraction, outputDir } = config
    const strategy = await readyStrategy(model, config, checkpoint, output, signal)
    const { learningRate, ...searched } = await rateOf(
      ...([model, config, strategy, checkpoint, ranks, output, signal] as const),
    )
    // A checkpoint has the values of its adapter.
    const from = checkpoint === null ? config.initAdapter : null
    const adapter = await model.attach(strategy, { seed: config.seed, from, signal })
    for (const remark of adapter.remarks) output.note(`note: ${remark}.`)
    const reading = new StatusLine(output, 'Reading')
    const onDataProgress = ({ rows, tokens }: EncodeProgress) =>
      reading.update(`${formatCount(rows)} rows, ${formatCount(tokens)} tokens`)
    const onEvalProgress = (done: EvaluateProgress) => progress?.evaluating(done)
    const onSampleProgress = (done: SampleProgress) => progress?.sampling(done)
    let progress: TrainProgress | undefined
    const { sampleRows, report, reportTo } = config
    const asked = {
      ...trainOptions(config),
      ...{ learningRate, evalDataset, evalFraction, outputDir, force, resume: checkpoint?.path ?? false },
      ...{
        sampleRows,
        report,
        reportTo,
        signal,
        onDataProgress,
        onEvalProgress,
        onSampleProgress,
        command: `npx lowrank train ${call}`,
      },
    }
    const run = adapter.trainOn(dataset, asked, prepareData, searched)
    for (const remark of run.remarks) output.note(`note: ${remark}.`)
    notePaging(config, run, model, output)
    output.note(
      `Training ${formatCount(adapter.trainableParameters)} parameters. Planned memory:\n${run.memory}`,
    )
    noteKernels(model, output)
    noteContext(config, model, output)
    noteShortage(run.memory, model, memorySettings({ ...config, ...run.options }, model), output)
    noteTemplate(config, output)
    noteHeldOut(config, output)
    output.note(`Reading ${[dataset.path].flat().join(', ')}`)
    progress = new TrainProgress(output, plannedOn(model, run), nodeBytes, titleOf(config, model))
    // The folder of the run names the file of a grader.
    const used = pinned(
      { ...config, ...run.options, strategy, rewardFunctions: given.rewardFunctions },
      model,
    )
    const done = await follow(run, used, output, progress, reading, signal, live, ranks).catch(
      (error: unknown) => {
        throw error === signal.reason || ranks.isStop(error) ? stopped(run, call) : error
      },
    )
    if (done === undefined) throw stopped(run, call)
    if (!ranks.isFirst) return
    interruption.promise = 'Skipping the sample rows; the adapter is saved.'
    const samples = done.privacy ? undefined : await askedShown(run, config, output, signal)
    for (const remark of await remarksForOthers(config.outputDir)) output.note(`note: ${remark}.`)
    await conclude(done, samples, model, used, call, output, progress)
  } finally {
    await model.dispose()
  }
}

/** The strategy of a config, after its probe if it needs one. A resumed run has already made its probe. */
async function readyStrategy(
  model: Model,
  config: RunConfig,
  checkpoint: Resumable | null,
  output: Output,
  signal: AbortSignal,
): Promise<StrategyConfig> {
  const { strategy, dataset, evalDataset, evalFraction } = config
  if (rulesOf(strategy).probe?.(strategy) === undefined) return strategy
  if (checkpoint !== null) return resumedStrategy(strategy, checkpoint)
  output.note('Probing: training on a sample of the data to rank the linears.')
  const probing = new StatusLine(output, 'Probing')
  const onStep = ({ step, totalSteps, loss }: TrainStep) =>
    probing.update(`step ${step} of ${totalSteps}, loss ${loss.toFixed(4)}`)
  try {
    const control = { evalDataset, evalFraction, signal, onStep }
    return await model.probe(strategy, dataset, { ...trainOptions(config), ...control })
  } catch (error) {
    if (error !== signal.reason) throw error
    throw new InterruptedError('stopped while probing; nothing was saved.', { step: 0, checkpoint: null })
  } finally {
    probing.clear()
  }
}

/** The config with the commit that was used, so that outputs record it. */
function pinned(config: RunConfig, { path, revision }: Model): RunConfig {
  return revision === null ? config : { ...config, model: path, revision }
}

/**
 * Shows the progress of a run.
 * @returns its last event; undefined if the run was stopped from its page
 */
async function follow(
  run: TrainingRun,
  config: RunConfig,
  output: Output,
  progress: TrainProgress,
  reading: StatusLine,
  signal: AbortSignal,
  live: Call['live'],
  ranks: Processes,
): Promise<DoneEvent | undefined> {
  let done: DoneEvent | undefined
  let isStopped = false
  const noted = run.remarks.length
  try {
    for await (const event of run.events()) {
      reading.clear()
      if (event.event === 'plan') {
        // The data is read and the folder exists now, so all errors in the command have been found.
        if (ranks.isFirst) await saveConfig(config, configText(config))
        await live?.begin(run)
        noteData(run, progress)
        if (ranks.sums !== undefined) progress.note(ranks.sums)
        if (event.privacy) notePrivacy(event.privacy, run.remarks.slice(noted), progress)
        output.event<'train'>(lineOf(event))
        // Measured times are for a single process with all cores.
        if (ranks.isAlone) await noteTime(run, output, progress, signal)
        progress.begin()
        continue
      }
      if (event.event === 'done') {
        done = event
        continue
      }
      output.event<'train'>(lineOf(event))
      isStopped = event.event === 'stopped'
      show(event, progress)
    }
  } finally {
    reading.clear()
    progress.stop()
  }
  if (done === undefined && !isStopped) throw new InternalError('a run ended without a final event')
  return done
}

function show(event: TrainEvent, progress: TrainProgress): void {
  if (event.event === 'step') {
    const loss = Number.isNaN(event.loss) ? null : event.loss
    progress.update({ ...event, loss, residentBytes: addon().residentBytes().rss })
  } else if (event.event === 'eval') {
    progress.evaluated(event)
  } else if (event.event === 'answers') {
    progress.answered(event)
  } else if (event.event === 'checkpoint') {
    progress.saved(event.step, event.path)
  } else if (event.event === 'paused' || event.event === 'resumed') {
    progress.paused(event.event === 'paused')
  }
}

/** Names a run, as in `orders   qlora, rank 16, on SmolLM2-135M-Instruct in NF4`. */
function titleOf({ outputDir, strategy }: RunConfig, { path, quantization }: Model): string {
  const { r = undefined } = {
    ...('adapter' in strategy ? (strategy.adapter as object) : {}),
    ...strategy,
  } as {
    r?: number
  }
  const rank = r === undefined ? '' : `, rank ${r}`
  const held = quantization.type === 'none' ? '' : ` in ${quantization.type.toUpperCase()}`
  return `${basename(outputDir)}   ${strategy.name}${rank}, on ${basename(path)}${held}`
}

/** The config and its overrides, as on a command line. */
function configCall(path: string, overrides: readonly string[]): string {
  return [shellWord(path), ...overrides.map((override) => `--set ${shellWord(override)}`)].join(' ')
}
