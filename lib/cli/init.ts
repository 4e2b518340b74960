/**
 * `lowrank init DATA`: looks at data and writes a config that trains on it, with a comment on each choice. It reads the
 * data to its end, so that what training would refuse is refused here, before anything is written.
 */
import { existsSync } from 'node:fs'
import { readdir } from 'node:fs/promises'
import { dirname, join, relative, resolve } from 'node:path'
import { type Command, Option } from 'commander'
import { shellWord } from '../core/system.js'
import { type Columns, checkFiles, STDIN } from '../data/dataset.js'
import { isWhole } from '../data/forms/index.js'
import { WorkerTokenizer } from '../data/worker-tokenizer.js'
import { openModelFiles } from '../models/index.js'
import { type Task, taskRules, tasksWhere } from '../tasks/index.js'
import { resolveConfig } from '../train/config/config.js'
import { locateShown } from './download.js'
import { UsageError } from './errors.js'
import { counted, facts, formatCount, shortPath, table } from './format.js'
import { collect, examples } from './help.js'
import { type ChosenModel, classesIn, configOf, sizesOf, twinsIn } from './init/config.js'
import { type Survey, surveyOf } from './init/survey.js'
import { columnsOf } from './inspect.js'
import { Output } from './output.js'
import { checkOutputFile, writeOutputFile } from './output-file.js'
import { shown } from './progress.js'

/** The model of a config where there is none in the folder. */
const DEFAULT_MODEL = 'HuggingFaceTB/SmolLM2-135M-Instruct'
const TASKS = tasksWhere(({ init }) => init !== null)

interface Options {
  model?: string
  output: string
  task?: Task
  column?: string[]
  force?: boolean
  json?: boolean
}

/** The option of a model that `modelFor` finds. */
export function modelOption(command: Command): void {
  command.option(
    '--model <name>',
    'a model folder, a .gguf file, or a name on the hub (default: the only one in this folder, else a small one on the hub)',
  )
}

export function configure(command: Command): void {
  command.argument('<data>', 'the training data: a file, a folder, or a pattern')
  modelOption(command)
  command.option('--output <file>', 'the config to write', 'config.yaml')
  command.addOption(new Option('--task <name>', 'the task (default: as the data is)').choices(TASKS))
  command.option('--column <name=column>', 'the name of a column; may be repeated', collect)
  command.option('--force', 'replace an existing file')
  examples(command, [
    'lowrank init messages.csv',
    'lowrank init chats.jsonl --model models/SmolLM2-135M-Instruct --output chat.yaml',
    'lowrank init pairs.csv --column prompt=frage --column completion=antwort',
  ])
  command.action(async (data: string, options: Options) => {
    const output = new Output(options.json ?? false)
    const { column = [], task, force = false } = options
    await checkOutputFile(options.output, '--output', force)
    if (data === STDIN)
      throw new UsageError('a config names its data, so pass a file; standard input has no name.')
    const columns = columnsOf(column)
    await checkFiles(data, {})
    const model = await modelFor(options.model)
    const asked = { columns, ...(task === undefined ? {} : { task }) }
    const survey = await surveyed(data, asked, model, options.model !== undefined, output)
    const folder = dirname(resolve(options.output))
    const text = configOf(survey, { ...model, name: fromFolder(model.name, folder) }, resolve(data), folder)
    const { parse } = await import('yaml')
    resolveConfig(parse(text), { name: options.output, spelling: 'snake' }, folder)
    await checkOutputFile(options.output, '--output', force)
    await writeOutputFile(options.output, text)
    output.answer<'init'>(answerOf(survey, model, data, options.output), () =>
      described(survey, model, data, options.output),
    )
  })
}

/** The name of a model in a config, whose paths are relative to its folder. */
export function fromFolder(name: string, folder: string): string {
  return existsSync(name) ? relative(folder, resolve(name)).replaceAll('\\', '/') || '.' : name
}

/** The model that the user names, or the only one in this folder. */
export async function modelFor(asked: string | undefined): Promise<ChosenModel> {
  if (asked !== undefined) return { name: asked, why: 'the model to start from' }
  const names = await readdir('.', { withFileTypes: true })
  const here = names.flatMap((entry) => {
    if (entry.isFile()) return /\.gguf$/i.test(entry.name) ? [entry.name] : []
    const has = (name: string) => existsSync(join(entry.name, name))
    return entry.isDirectory() && has('config.json') && has('tokenizer.json') && !has('run.json')
      ? [entry.name]
      : []
  })
  const [only, ...more] = here
  if (only !== undefined && more.length === 0) return { name: only, why: 'the model in this folder' }
  return { name: DEFAULT_MODEL, why: 'small, from the hub; or a folder, a .gguf file, or another name' }
}

export async function surveyed(
  data: string,
  asked: { columns: Columns; task?: Task },
  { name }: ChosenModel,
  isNamed: boolean,
  output: Output,
): Promise<Survey> {
  // The default model is not downloaded just to count tokens.
  const isHere = existsSync(name)
  const path = isHere ? name : isNamed ? (await locateShown('tokenizer', name, output)).path : null
  return shown(output, 'Reading', async () => {
    const tokenizer = path === null ? null : await WorkerTokenizer.open(await tokenizerAt(path))
    try {
      return await surveyOf(data, asked, tokenizer)
    } finally {
      await tokenizer?.close()
    }
  })
}

async function tokenizerAt(path: string) {
  return existsSync(join(path, 'tokenizer.json')) ? ({ kind: 'folder', path } as const) : openModelFiles(path)
}

function nextCommands({ task, example, format }: Survey, config: string): [command: string, why: string][] {
  const call = (words: string) => `npx lowrank ${words}`
  const path = shellWord(shortPath(resolve(config)))
  const text = shellWord(example.length > 0 && example.length <= 60 ? example : 'Hello')
  return [
    [call(`inspect ${path} --rows 1`), 'what a row becomes'],
    [call(`train ${path}`), 'train, evaluate, and write the adapter'],
    taskRules(task).classes
      ? [call(`classify ${path} --text ${text}`), 'the class of a text']
      : isWhole(format)
        ? [call(`generate ${path} --prompt ${text}`), 'continue a text']
        : [call(`chat ${path}`), 'talk with the tuned model'],
  ]
}

function answerOf(survey: Survey, model: ChosenModel, data: string, config: string) {
  const { fileType = null, encoding, format, task, columns, rows, classes, twins, longestRow } = survey
  return {
    ...{ config, model: model.name, dataset: data, file_type: fileType, format, task, columns, rows },
    held_out: sizesOf(survey).heldOut,
    classes,
    encoding: encoding ?? 'utf-8',
    strip_labels: twins.length > 0,
    longest_row: longestRow,
    next: nextCommands(survey, config).map(([command]) => command),
  }
}

function described(survey: Survey, model: ChosenModel, data: string, config: string): string {
  const { fileType, encoding, format, task, columns, rows, classes, twins } = survey
  const { longestRow, counted: isCounted } = survey
  const { heldOut, maxSeqLength } = sizesOf(survey)
  const names = Object.entries(columns).map(([name, column]) => `${column} as ${name}`)
  return [
    facts([
      ['data', `${shortPath(resolve(data))}${fileType === undefined ? '' : `, ${fileType}`}`],
      ['rows', `${formatCount(rows)}, of them ${formatCount(heldOut)} held out`],
      ['format', format],
      ['encoding', encoding],
      ['columns', names.join(', ')],
      ['task', task],
      ['classes', classes === null ? undefined : classesIn(classes)],
      ['one class each', twins.length === 0 ? undefined : `${twinsIn(twins)}, by strip_labels`],
      [
        'longest row',
        longestRow === 0
          ? undefined
          : `${isCounted ? '' : 'about '}${counted(longestRow, 'token')}; max_seq_length ${maxSeqLength}`,
      ],
      ['model', `${model.name}, ${model.why}`],
      ['written', config],
    ]),
    '\nNext:',
    table(nextCommands(survey, config).map(([command, why]) => [`  ${command}`, why])),
  ].join('\n')
}
