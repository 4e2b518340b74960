/**
 * `lowrank migrate FILE`: from data that was used for fine-tuning at OpenAI to a tuned model of one's own. Splits, plans,
 * trains, asks the held-out rows, compares, and ends with the lines of code to change. Repeated, it goes on.
 */
import { existsSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { relative, resolve } from 'node:path'
import { createInterface } from 'node:readline/promises'
import type { Command } from 'commander'
import { formatBytes } from '../core/bytes.js'
import { shellWord } from '../core/system.js'
import { writeFileWhole } from '../io/atomic.js'
import { checkItems } from '../serve/index.js'
import { isPrivate } from '../strategies/index.js'
import { taskRules } from '../tasks/index.js'
import { listCheckpoints } from '../train/checkpoints/checkpoint-folder.js'
import { loadConfig, type RunConfig } from '../train/config/config.js'
import { checkRun } from '../train/config/preflight.js'
import { lockRun } from '../train/folders/run-lock.js'
import { Processes } from '../train/processes/processes.js'
import { hasEnded } from '../train/records/metrics-file.js'
import { InterruptedError, UsageError } from './errors.js'
import { counted, formatCount, shortPath } from './format.js'
import { collect, examples, integerFlag, notedOn } from './help.js'
import { configOf } from './init/config.js'
import { fromFolder, modelFor, modelOption, surveyed } from './init.js'
import { Interruption } from './interrupt.js'
import { isScreen } from './live-lines.js'
import { askBoth, checkCalls } from './migrate/asking.js'
import { conclude } from './migrate/conclusion.js'
import { hashOfFile, MigrationFolder, type Settings } from './migrate/folder.js'
import { rewardConfig } from './migrate/grading.js'
import { type OldAnswers, readOldAnswers } from './migrate/old-answers.js'
import { requestsOf } from './migrate/requests.js'
import { linesOf, type Split, splitFile } from './migrate/split.js'
import { Output } from './output.js'
import { bytesBeside } from './plan/fit.js'
import { planned } from './plan/planned.js'
import { targetOf } from './plan/target.js'
import { shown } from './progress.js'
import { readGrader } from './rewards.js'
import { secondsText } from './time.js'
import { train } from './train.js'

interface Options {
  model?: string
  oldModel: string
  answers?: string
  grader?: string
  output: string
  heldOut?: number
  seed: number
  strategy?: string
  config?: string
  set?: string[]
  prepare?: boolean
  yes?: boolean
  force?: boolean
  json?: boolean
}

export function configure(command: Command): void {
  command.argument('<file>', 'the JSON Lines that the old model was trained on')
  modelOption(command)
  command.option(
    '--answers <file>',
    "the old model's answers to the held-out rows: the output of a batch, or JSON Lines",
  )
  command.option(
    '--grader <file>',
    "rows of reinforcement: the grader of their answers, OpenAI's object in a JSON file",
  )
  command.option('--old-model <name>', 'the model of the questions in requests.jsonl', 'gpt-4o-mini')
  command.option('--output <folder>', 'folder of the migration', 'lowrank-migrate')
  command.option(
    '--held-out <N>',
    'most rows to hold out and ask (default: a fifth, at most 100)',
    integerFlag(1),
  )
  command.option('--seed <N>', 'seed of the split', integerFlag(0), 1)
  command.option('--strategy <name>', 'the training strategy (default: lora)')
  command.option('--config <file>', 'a config in place of the one that is written; its data is replaced')
  command.option('--set <key=value>', 'change a key of the config; may be repeated', collect)
  command.option('--prepare', 'split and plan only, and write the questions for the old model')
  command.option('--yes', 'train without asking on a terminal')
  command.option('--force', 'begin anew in an existing folder')
  examples(command, [
    'lowrank migrate train.jsonl --prepare --old-model ft:gpt-4o-mini-2024-07-18:acme::9xYz',
    'lowrank migrate train.jsonl --model models/SmolLM2-135M-Instruct --answers batch_output.jsonl',
    'lowrank migrate train.jsonl --strategy dora --set num_train_epochs=5',
    'lowrank migrate prompts.jsonl --grader grader.json',
  ])
  command.action(async (file: string, options: Options) => {
    const output = new Output(options.json ?? false)
    const interruption = new Interruption(output, 'Stopping.')
    try {
      await migrated(file, options, output, interruption)
    } catch (error) {
      throw error instanceof InterruptedError ? goesOn(error) : error
    } finally {
      interruption.dispose()
    }
  })
}

async function migrated(
  file: string,
  options: Options,
  output: Output,
  interruption: Interruption,
): Promise<void> {
  const grader = options.grader === undefined ? undefined : await readGrader(options.grader, '--grader')
  const settings = await settingsOf(file, options)
  const folder = await MigrationFolder.open(resolve(options.output), settings, options.force ?? false)
  const lock = await lockRun(folder.path)
  try {
    const { signal } = interruption
    if (grader !== undefined) await checkItems(file, grader)
    const split = folder.split ?? (await begun(file, options, settings, folder, output))
    await writeParts(file, options, split, folder)
    noteSplit(split, folder, output)
    // Read before anything that takes long, so that a mistake in the file is seen at once.
    const old = await oldAnswers(options, split)
    noteOld(old, split, output)
    const config = await configFor(options, split, folder, output)
    const { peakBytes, seconds } = await planShown(config, folder, output)
    if (options.prepare) {
      output.text(`The questions for the old model are in ${shortPath(folder.at('requests'))}.`)
      return
    }
    await trained(config, { split, folder, options, interruption }, output)
    interruption.promise = 'Stopping.'
    const saved = await askBoth(config, { rows: split.heldOut, folder, signal }, output)
    const plan = { peakBytes, seconds }
    await conclude(
      { file, config, folder, split, saved, old, plan, grader, oldModel: options.oldModel },
      output,
    )
  } finally {
    lock.release()
  }
}

async function settingsOf(file: string, options: Options): Promise<Settings> {
  const { grader, config, model, strategy, set = [], seed, heldOut } = options
  if (config !== undefined && strategy !== undefined)
    throw new UsageError('pass either --config or --strategy; a config has a strategy.')
  return {
    data: await hashOfFile(file),
    grader: grader === undefined ? null : await hashOfFile(grader),
    config: config === undefined ? null : await hashOfFile(config),
    ...{ model: model ?? null, strategy: strategy ?? null, set, seed, held_out: heldOut ?? null },
  }
}

/** Splits the data; a later call writes files that this one could not. */
async function begun(
  file: string,
  { seed, heldOut, grader }: Options,
  settings: Settings,
  folder: MigrationFolder,
  output: Output,
): Promise<Split> {
  const count = heldOut === undefined ? {} : { count: heldOut }
  const split = await shown(output, 'Reading', () =>
    splitFile(file, { seed, graded: grader !== undefined, ...count }),
  )
  await folder.begin(file, settings, split)
  return split
}

/** The parts of the data as files, and the questions for the old model. */
async function writeParts(
  file: string,
  { oldModel, grader }: Options,
  split: Split,
  folder: MigrationFolder,
): Promise<void> {
  if (grader !== undefined) await writeFileWhole(folder.at('grader'), await readFile(grader))
  if (!existsSync(folder.at('train')))
    await writeFileWhole(folder.at('train'), await linesOf(file, split.train))
  if (!existsSync(folder.at('heldOut')))
    await writeFileWhole(folder.at('heldOut'), await linesOf(file, split.heldOutLines))
  await writeFileWhole(folder.at('requests'), requestsOf(split.heldOut, oldModel))
}

function noteSplit({ rows, repeated, train, heldOut }: Split, folder: MigrationFolder, output: Output): void {
  const again = repeated > 0 ? `, ${formatCount(repeated)} repeated` : ''
  output.note(
    `${counted(rows, 'row')}${again}: ${formatCount(train.length)} to train on, ${formatCount(heldOut.length)} held out.`,
  )
  output.event<'migrate'>({
    ...{ event: 'split', rows, repeated, train: train.length, held_out: heldOut.length },
    requests: folder.at('requests'),
  })
}

async function oldAnswers({ answers }: Options, { rows, heldOut }: Split): Promise<OldAnswers | undefined> {
  if (answers === undefined) return undefined
  return readOldAnswers(
    answers,
    rows,
    heldOut.map(({ row }) => row),
  )
}

function noteOld(old: OldAnswers | undefined, { heldOut }: Split, output: Output): void {
  if (old === undefined) return
  const given = old.answers.filter((text) => text !== null).length
  const failed = old.failed > 0 ? `; ${counted(old.failed, 'request')} failed` : ''
  output.note(`The old model answers ${given} of ${heldOut.length} held-out rows${failed}.`)
}

/** The config of the run: that of the user, or one for the data as `lowrank init` writes it. */
async function configFor(
  options: Options,
  split: Split,
  folder: MigrationFolder,
  output: Output,
): Promise<RunConfig> {
  const data = folder.at('train')
  const own = options.config !== undefined
  if (!own && !existsSync(folder.at('config'))) {
    const model = await modelFor(options.model)
    const named = { ...model, name: fromFolder(model.name, folder.path) }
    const text =
      options.grader === undefined
        ? configOf(
            await surveyed(data, { columns: {} }, model, options.model !== undefined, output),
            ...([named, data, folder.path, folder.name] as const),
          )
        : rewardConfig(named, data, folder.path, folder.name, split.train.length)
    await writeFileWhole(folder.at('config'), text)
  }
  const config = await loadConfig(
    own ? (options.config as string) : folder.at('config'),
    changesOf(options, folder),
    notedOn(output),
  )
  if (taskRules(config.task).classes || isPrivate(config.strategy))
    throw new UsageError(
      taskRules(config.task).classes
        ? `the task of the config is ${config.task}, whose model writes no answers; use causal_lm, dpo, or orpo.`
        : 'the strategy of the config trains on private rows, and the page would show them; use another strategy.',
    )
  if (taskRules(config.task).samplesAnswers !== (options.grader !== undefined))
    throw new UsageError(
      options.grader === undefined
        ? `the task of the config is ${config.task}, which learns from scores of answers; give their grader with --grader.`
        : `the task of the config is ${config.task}, which asks no grader; use grpo, or leave out --grader.`,
    )
  return {
    ...config,
    ...(options.grader === undefined ? {} : { rewardFunctions: [folder.at('grader')] }),
    // Held-out rows are asked in place of samples.
    sampleRows: 0,
  }
}

/** Changes of the config, as `--set` takes them. */
function changesOf({ config, model, strategy, set = [] }: Options, folder: MigrationFolder): string[] {
  const data = [
    `dataset=${JSON.stringify(folder.at('train'))}`,
    `output_dir=${JSON.stringify(folder.runDir)}`,
  ]
  return [
    ...(config === undefined ? [] : data),
    ...(config === undefined || model === undefined ? [] : [`model=${JSON.stringify(resolveModel(model))}`]),
    ...(strategy === undefined ? [] : [`strategy={name: ${JSON.stringify(strategy)}}`]),
    ...set,
  ]
}

const resolveModel = (model: string) => (existsSync(model) ? resolve(model) : model)

async function planShown(
  config: RunConfig,
  folder: MigrationFolder,
  output: Output,
): Promise<{ peakBytes: number; seconds: number | null }> {
  const { card } = targetOf(config)
  const asked = { budget: undefined, hasData: true, counts: false, card, ranks: undefined }
  const { memory, beside, time } = await planned(config, asked, output)
  const { peakBytes } = memory
  const known = 'unknown' in time ? undefined : time
  const seconds = known?.runSeconds ?? null
  output.event<'migrate'>({
    ...{ event: 'planned', config: folder.at('config'), peak_bytes: peakBytes },
    process_bytes: peakBytes + bytesBeside(beside),
    ...{ steps: known?.steps ?? null, seconds },
  })
  const takes = seconds === null ? '' : `; the steps take about ${secondsText(seconds)}`
  output.note(
    `Plan: ${config.strategy.name} on ${config.model}, ${formatBytes(peakBytes)} at the peak${takes}.`,
  )
  return { peakBytes, seconds }
}

interface Training {
  split: Split
  folder: MigrationFolder
  options: Options
  interruption: Interruption
}

/** Trains, unless an earlier call has; one that was interrupted goes on from its last checkpoint. */
async function trained(
  config: RunConfig,
  { split, folder, options, interruption }: Training,
  output: Output,
): Promise<void> {
  const { runDir } = folder
  const isDone = ['adapter_config.json', 'config.json'].some((name) => existsSync(`${runDir}/${name}`))
  if (isDone && (await hasEnded(runDir)) === true) return
  const { signal } = interruption
  const resume = (await listCheckpoints(runDir)).length > 0
  if (!resume) {
    await checkCalls(config, split.heldOut, output, signal)
    await agreed(options, output, signal)
  }
  interruption.promise = 'Finishing this step, then saving a checkpoint.'
  const force = !resume && existsSync(runDir)
  const checkpoint = await checkRun(config, { resume, force, signal })
  const call = callOf(options, folder)
  await train(
    config,
    { checkpoint, force, call, interruption, live: undefined, ranks: Processes.alone() },
    output,
  )
}

/** The config and its overrides, as on a command line of `lowrank train`. */
function callOf(options: Options, folder: MigrationFolder): string {
  const path = options.config ?? folder.at('config')
  const isOwn = options.config !== undefined && options.grader !== undefined
  const rewards = isOwn ? [`reward_functions=${JSON.stringify(folder.at('grader'))}`] : []
  const changes = [...changesOf(options, folder), ...rewards].map((change) => `--set ${shellWord(change)}`)
  return [shellWord(relative('', path)), ...changes].join(' ')
}

/** Asks for a yes on a terminal. @throws {InterruptedError} for a no */
async function agreed({ yes, json }: Options, output: Output, signal: AbortSignal): Promise<void> {
  if (yes || json || !process.stdin.isTTY || !isScreen(output.stderr)) return
  const terminal = createInterface({ input: process.stdin, output: output.stderr })
  try {
    const answer = await terminal.question('Train? [Y/n] ', { signal })
    if (/^n/i.test(answer.trim())) throw new InterruptedError('not trained.')
  } finally {
    terminal.close()
  }
}

/** The error of a call that was stopped, with how to go on. */
function goesOn({ message, details }: InterruptedError): InterruptedError {
  const [told = ''] = message.split(' Resume with:')
  const { resume: _, ...rest } = details
  return new InterruptedError(`${told.replace(/;?$/, '')} Run the same command again to go on.`, rest)
}
