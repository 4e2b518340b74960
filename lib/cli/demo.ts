/**
 * `lowrank demo`: tunes the bundled model on the bundled task, and shows what that changed. Equivalent to
 * `lowrank train` on demo/config.yaml, with the held-out items asked before and after.
 */
import { existsSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { join, relative, resolve } from 'node:path'
import type { Command } from 'commander'
import { formatBytes } from '../core/bytes.js'
import { packageRoot } from '../core/root.js'
import { shellWord } from '../core/system.js'
import type { Adapter } from '../model/adapter.js'
import type { Model } from '../model/model.js'
import { addon, type Category } from '../native/addon.js'
import type { ChatMessage } from '../tokenizer/message.js'
import { loadConfig, loadQuantization, type RunConfig, trainOptions } from '../train/config/config.js'
import { configText } from '../train/config/config-schema.js'
import { memorySettings } from '../train/config/preflight.js'
import { saveConfig, savedConfig } from '../train/folders/output-folder.js'
import type { ExactMatch } from '../train/measures/exact-match.js'
import { lineOf } from '../train/records/metrics-file.js'
import type { TrainingRun } from '../train/run/run.js'
import type { DoneEvent } from '../train/steps/events.js'
import { UsageError } from './errors.js'
import { digits, fittedTable, formatCount, formatDuration, table } from './format.js'
import { collect, examples, integerFlag, notedOn } from './help.js'
import { Interruption } from './interrupt.js'
import { columnsOf } from './live-lines.js'
import { Output, printable, styledFor } from './output.js'
import { StatusLine } from './progress.js'
import { loadShown } from './subject.js'
import { stopped } from './train-end.js'
import { noteShortage } from './train-notes.js'
import { TrainProgress } from './train-progress.js'

/** Data in the package. */
const FOLDER = join(packageRoot, 'demo')
/** Number of held-out items whose answers are shown. */
const SHOWN = 3
/** Most tokens of an answer; the task's answers have about 60. */
const ANSWER_TOKENS = 96

interface Options {
  output: string
  force?: boolean
  seed?: number
  set?: string[]
  json?: boolean
}

/** A held-out item, and the answers to it. */
interface Sample {
  prompt: string
  expected: string
  before: string
  after: string
}

export function configure(command: Command): void {
  command.option('--output <folder>', 'output folder', 'lowrank-demo')
  command.option('--force', 'write into an existing folder')
  command.option('--seed <N>', 'seed of the data order and the initial values', integerFlag(0))
  command.option('--set <key=value>', "change a key of the demo's config; may be repeated", collect)
  examples(command, ['lowrank demo', 'lowrank demo --set strategy.adapter.r=8 --output small'])
  command.action(async (options: Options) => {
    const output = new Output(options.json ?? false)
    if (existsSync(options.output) && !options.force)
      throw new UsageError(
        `${options.output} exists; name another folder with --output, or write into it with --force.`,
        { output: options.output },
      )
    const config = await demoConfig(options, output)
    const interruption = new Interruption(output, 'Stopping after saving.')
    try {
      await demo(config, output, options.force ?? false, interruption.signal)
    } finally {
      interruption.dispose()
    }
  })
}

/** The bundled config, with the changes of the flags. */
async function demoConfig({ output, seed, set = [] }: Options, shown: Output): Promise<RunConfig> {
  const changes = [
    `output_dir=${JSON.stringify(resolve(output))}`,
    ...(seed === undefined ? [] : [`seed=${seed}`]),
  ]
  const config = await loadConfig(join(FOLDER, 'config.yaml'), [...changes, ...set], notedOn(shown))
  if (config.learningRate === 'auto')
    throw new UsageError('the demo does not search a learning rate; set learning_rate to a number.')
  return config
}

async function demo(config: RunConfig, output: Output, force: boolean, signal: AbortSignal): Promise<void> {
  const begin = performance.now()
  const { rss: nodeBytes } = addon().residentBytes()
  const items = await heldOut(config)
  output.note('Teaching a small model to read orders: a note goes in, JSON comes out.')
  output.note('It takes about a minute on two cores. Ctrl-C stops it.\n')
  const { precision, device, threads } = config
  const model = await loadShown(
    config.model,
    { ...loadQuantization(config), precision, device, threads, signal },
    output,
  )
  try {
    const adapter = await model.attach(config.strategy, { seed: config.seed })
    const { dataset, evalDataset, outputDir } = config
    const run = adapter.train(dataset, {
      ...trainOptions(config),
      evalDataset,
      outputDir,
      force,
      signal,
      command: 'npx lowrank demo',
    })
    noteSetting(adapter, run, items.length, output)
    noteShortage(run.memory, model, memorySettings({ ...config, ...run.options }, model), output)

    const shown = items.slice(0, SHOWN)
    const base = await asked(model, [], config, shown, output, signal)
    output.note(headline('Before', base.score, output))
    for (const [i, [question, expected]] of shown.entries())
      output.note(exchange(question.content as string, base.answers[i] as string, expected, output))

    output.note('\nTraining')
    const trained = await follow(run, config, output, nodeBytes, signal)

    const tuned = await asked(model, [adapter], config, shown, output, signal)
    output.note(`\n${headline('After', tuned.score, output)}`)
    for (const [i, [question, expected]] of shown.entries())
      output.note(exchange(question.content as string, tuned.answers[i] as string, expected, output))

    const samples = shown.map(([question, expected], i): Sample => {
      const [before, after] = [base.answers[i] as string, tuned.answers[i] as string]
      return { prompt: question.content as string, expected, before, after }
    })
    output.event<'demo'>({
      event: 'demo',
      before: { exact_match: base.score.exactMatch },
      after: { exact_match: tuned.score.exactMatch },
      samples,
    })
    output.event<'demo'>(lineOf(trained.done))
    const columns = columnsOf(output.stderr)
    const { allocated, residentBytes } = trained
    output.note(`\nMemory\n${memoryTable(run, allocated, residentBytes, nodeBytes, columns)}`)
    const seconds = (performance.now() - begin) / 1000
    const story = summary(base.score, tuned.score, trained.done, seconds, config)
    output.text(`\n${story}`)
  } finally {
    await model.dispose()
  }
}

/** The questions and answers in the held-out file. */
async function heldOut({ evalDataset }: RunConfig): Promise<[question: ChatMessage, answer: string][]> {
  const path = evalDataset?.path
  if (typeof path !== 'string')
    throw new UsageError('eval_dataset of the demo must be one file of chats, a question and an answer each.')
  const lines = (await readFile(path, 'utf8')).split('\n').filter((line) => line !== '')
  return lines.map((line) => {
    const [question, answer] = (JSON.parse(line) as { messages: [ChatMessage, ChatMessage] }).messages
    return [question, answer.content as string]
  })
}

/** Asks the model with these adapters: the share of correct answers, and the answers to show. */
async function asked(
  model: Model,
  adapters: readonly Adapter[],
  { evalDataset, maxSeqLength }: RunConfig,
  shown: readonly (readonly [ChatMessage, string])[],
  output: Output,
  signal: AbortSignal,
): Promise<{ score: ExactMatch; answers: string[] }> {
  const line = new StatusLine(output, 'Asking')
  try {
    const answers: string[] = []
    for (const [question] of shown) {
      const options = { maxNewTokens: ANSWER_TOKENS, adapters, signal }
      answers.push((await model.generate([question], options)).text)
    }
    const onProgress = ({ batches, totalBatches }: { batches: number; totalBatches: number }) =>
      line.update(`${batches} of ${totalBatches} held-out notes`)
    const score = await model.exactMatch(evalDataset as NonNullable<typeof evalDataset>, {
      maxSeqLength,
      adapters,
      signal,
      onProgress,
    })
    return { score, answers }
  } finally {
    line.clear()
  }
}

interface Trained {
  done: DoneEvent
  /** During the last step. */
  allocated: Record<Category, number>
  residentBytes: number
}

/** Trains and shows progress. */
async function follow(
  run: TrainingRun,
  config: RunConfig,
  output: Output,
  nodeBytes: number,
  signal: AbortSignal,
): Promise<Trained> {
  const progress = new TrainProgress(output, { ...run.memory, onCard: false }, nodeBytes)
  const configPath = savedConfig(config)
  let allocated = addon().allocated()
  let residentBytes = 0
  try {
    for await (const event of run.events()) {
      if (event.event === 'plan') await saveConfig(config, configText(config))
      if (event.event === 'done') return { done: event, allocated, residentBytes }
      output.event<'demo'>(lineOf(event))
      if (event.event !== 'step') continue
      allocated = addon().allocated()
      residentBytes = addon().residentBytes().rss
      progress.update({ ...event, residentBytes })
    }
  } catch (error) {
    throw error === signal.reason ? stopped(run, shellWord(relative('', configPath))) : error
  } finally {
    progress.stop()
  }
  throw new Error('a run ended without a final event')
}

function noteSetting(adapter: Adapter, run: TrainingRun, items: number, output: Output): void {
  const total = run.memory.totalParameters - adapter.trainableParameters
  const rows = [
    ['model', `${formatCount(total)} parameters, trained by lowrank from random weights on invented text`],
    [
      'method',
      `${adapter.strategy.name}: ${formatCount(adapter.trainableParameters)} parameters over 4-bit weights`,
    ],
    ['held out', `${formatCount(items)} notes, about people and places that training does not name`],
  ]
  output.note(`${table(rows)}\n\nPlanned memory\n${run.memory}\n`)
}

function headline(when: string, score: ExactMatch, { stderr }: Output): string {
  const text = `${when}: ${percent(score)} of ${formatCount(score.rows)} held-out notes are answered exactly right.`
  return styledFor(stderr, 'bold', text)
}

const percent = ({ exactMatch }: ExactMatch) => `${digits(100 * exactMatch)} %`

function exchange(question: string, answer: string, expected: string, { stderr }: Output): string {
  const right = answer === expected
  const mark = styledFor(stderr, right ? 'green' : 'red', right ? 'right' : 'wrong')
  return `  note    ${question}\n  ${mark}   ${printable(answer).replaceAll('\n', '\n          ')}`
}

/** Categories that are allocated together, in the arena. */
const IN_ARENA: readonly Category[] = ['activations', 'loss', 'workspace']

/** Planned memory, allocated memory, and the resident size. */
function memoryTable(
  { memory }: TrainingRun,
  allocated: Record<Category, number>,
  residentBytes: number,
  nodeBytes: number,
  columns: number,
): string {
  const held = Object.values(allocated).reduce((sum, bytes) => sum + bytes, 0)
  const arena = IN_ARENA.reduce((sum, category) => sum + allocated[category], 0)
  const own = memory.rows.filter(({ category, bytes }) => bytes > 0 && !IN_ARENA.includes(category))
  const row = (name: string, planned: number, measured: number) => [
    name,
    formatBytes(planned),
    formatBytes(measured),
  ]
  const rows = [
    ['', 'planned', 'allocated'],
    ...own.map(({ category, bytes }) => row(category, bytes, allocated[category])),
    row(IN_ARENA.join(' + '), memory.arenaBytes, arena),
    row('together', memory.peakBytes, held),
  ]
  const resident =
    `resident      ${formatBytes(residentBytes)}, of which Node.js held ${formatBytes(nodeBytes)} ` +
    'before the model was loaded'
  return `${fittedTable(rows, columns, [1, 2])}\n${resident}`
}

function summary(
  before: ExactMatch,
  after: ExactMatch,
  done: Trained['done'],
  seconds: number,
  config: RunConfig,
): string {
  const { outputDir, evalDataset } = config
  const saved = shellWord(relative('', savedConfig(config)))
  const folder = shellWord(relative('', outputDir))
  const test = shellWord(relative('', evalDataset?.path as string))
  // Paths in a config are relative to its folder.
  const here = (name: string) => shellWord(join(relative(outputDir, ''), name))
  const own = `--set dataset=${here('yours.jsonl')} --set eval_dataset=null --set output_dir=${here('yours')}`
  return [
    `Exact match on held-out notes: ${percent(before)} before, ${percent(after)} after ${done.steps} steps.`,
    `Total time ${formatDuration(seconds)}. The adapter is in ${folder}, a folder that PEFT loads.`,
    '',
    'Next steps:',
    ...[
      ['Try your own note', `npx lowrank chat ${saved}`],
      ['Ask the model without the adapter', `npx lowrank chat ${saved} --no-adapter`],
      ['See what was saved', `npx lowrank inspect ${folder}`],
      ['Evaluate it again', `npx lowrank eval ${saved} --dataset ${test}`],
      ['Train the small model on your own data', `npx lowrank train ${saved} ${own}`],
      [
        'Train a real model on it (270 MB, from the Hugging Face hub)',
        `npx lowrank train ${saved} ${own} --set model=HuggingFaceTB/SmolLM2-135M-Instruct --set max_seq_length=512 --set learning_rate=2e-4`,
      ],
    ].map(([what, command]) => `  # ${what}\n  ${command}`),
  ].join('\n')
}
