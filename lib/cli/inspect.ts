/** `lowrank inspect PATH`: detects what is at a path and shows its contents, without loading weights. */
import { existsSync } from 'node:fs'
import { readdir, stat } from 'node:fs/promises'
import { basename, dirname, join, resolve } from 'node:path'
import { type Command, Option } from 'commander'
import { DataError, FileFormatError } from '../core/errors.js'
import { shellWord } from '../core/system.js'
import {
  COLUMN_NAMES,
  type Columns,
  DATASET_FORMATS,
  FILE_TYPES,
  fileTypeByName,
  refuseSpreadsheet,
  STDIN,
} from '../data/dataset.js'
import { EMPTY_ROWS, REASONING_HISTORY, TRAIN_ON, UNENDED } from '../data/encoded-row.js'
import { SPECIAL_TOKENS_IN_CONTENT } from '../data/special-text.js'
import { adapterForm } from '../formats/foreign-weights.js'
import { readGgufHeader } from '../formats/gguf.js'
import { readSafetensorsHeader } from '../formats/safetensors.js'
import { parseHubName } from '../hub/name.js'
import { withInputFile } from '../io/input.js'
import { locateShown } from './download.js'
import { UsageError } from './errors.js'
import { collect, encodingFlag, examples, integerFlag, onlyOwnFlags, withEncodingFlag } from './help.js'
import type { DatasetInspection } from './inspect/dataset.js'
import type { Inspection } from './inspect/inspection.js'
import { Output } from './output.js'
import { shown } from './progress.js'

interface Options extends DatasetInspection {
  column?: string[]
  set?: string[]
  json?: boolean
}

export function configure(command: Command): void {
  command.argument(
    '<path>',
    'a model folder, .gguf file, adapter folder, checkpoint, output folder, dataset (file, folder, pattern, or -), config, or name on the hub',
  )
  command.option(
    '--model <name>',
    'for a dataset: count its tokens and show what is trained on, as this model sees it',
  )
  command.option('--max-seq-length <N>', 'with --model: truncate rows to this many tokens', integerFlag(2))
  command.addOption(
    new Option('--train-on <what>', 'with --model: the part that is trained on').choices(TRAIN_ON),
  )
  command.addOption(
    new Option(
      '--reasoning-history <what>',
      'with --model: drop makes every answer of a chat an example',
    ).choices(REASONING_HISTORY),
  )
  command.option('--raw', 'with --model: join prompt and completion as raw text (chat_template: false)')
  command.option('--set <key=value>', 'change a key of the config; may be repeated', collect)
  command.option('--rows <N>', 'with --model or a config: number of rows to show', integerFlag(0))
  command.option(
    '--row <I>',
    'with --model or a config: show only this row, in full; the first is 1',
    integerFlag(1),
  )
  command.addOption(
    new Option('--format <form>', 'for a dataset: its format').choices(['auto', ...DATASET_FORMATS]),
  )
  command.addOption(
    new Option('--file-type <type>', 'for a dataset: the type of its files').choices(['auto', ...FILE_TYPES]),
  )
  command.option(
    '--encoding <name>',
    'for a dataset: the encoding of its text, such as windows-1252',
    encodingFlag,
  )
  command.option(
    '--strip-labels',
    'for a dataset: labels that differ only by white space or case are one class',
  )
  command.option('--column <name=column>', 'for a dataset: the name of a column; may be repeated', collect)
  command.addOption(
    new Option('--empty-rows <what>', 'with --model: rows with nothing to train on').choices(EMPTY_ROWS),
  )
  command.addOption(
    new Option('--unended <what>', 'with --model: data whose answers never end').choices(UNENDED),
  )
  command.addOption(
    new Option(
      '--special-tokens-in-content <what>',
      'with --model: special tokens such as <|im_end|> in the text',
    ).choices(SPECIAL_TOKENS_IN_CONTENT),
  )
  examples(command, [
    'lowrank inspect models/SmolLM2-135M-Instruct',
    'lowrank inspect out/checkpoint-100',
    'lowrank inspect run.yaml',
    'lowrank inspect train.jsonl --model models/SmolLM2-135M-Instruct',
    'lowrank inspect train.csv --model models/SmolLM2-135M-Instruct --column prompt=question --row 7',
  ])
  command.action(async (path: string, { column = [], ...options }: Options) => {
    const output = new Output(options.json ?? false)
    const columns = columnsOf(column)
    const { data, text } = isConfig(path)
      ? await inspectConfig(path, options, command, output)
      : await inspect(await onDisk(path, output), { ...options, columns }, output)
    output.answer<'inspect'>(data, text)
  })
}

const isConfig = (path: string) => /\.ya?ml$/i.test(path)

async function inspectConfig(
  path: string,
  options: Options,
  command: Command,
  output: Output,
): Promise<Inspection> {
  onlyOwnFlags(command, 'inspect CONFIG', ['set', 'rows', 'row'])
  return (await import('./inspect/config.js')).inspectConfig(path, options, output)
}

async function inspect(path: string, options: Options, output: Output): Promise<Inspection> {
  const kind = await recognize(path)
  if (options.set !== undefined) throw new UsageError(`--set changes keys of a config; ${path} is a ${kind}.`)
  if (options.model !== undefined && kind !== 'dataset')
    output.note(`note: --model only applies to a dataset; ${path} is a ${kind}`)
  switch (kind) {
    case 'model': {
      const { inspectModel } = await import('./inspect/model.js')
      return shown(output, 'Reading', () => inspectModel(path))
    }
    case 'adapter':
    case 'checkpoint': {
      const { inspectAdapter } = await import('./inspect/adapter.js')
      return shown(output, 'Reading', () => inspectAdapter(path, kind))
    }
    case 'run':
      return (await import('./inspect/run.js')).inspectRun(path)
    case 'dataset':
      return (await import('./inspect/dataset.js')).inspectDataset(path, options, output).catch(withFlags)
  }
}

/** Rewrites errors about a config's columns in terms of flags. */
function withFlags(error: unknown): never {
  if (!(error instanceof DataError)) throw withEncodingFlag(error)
  const flags = error.message.replace(
    /set columns, e\.g\. columns: \{prompt: (.*), completion: (.*)\}$/,
    (_, ...[prompt, completion]: string[]) =>
      `pass --column, e.g. ${[`prompt=${prompt}`, `completion=${completion}`].map((pair) => `--column ${shellWord(pair)}`).join(' ')}`,
  )
  throw withEncodingFlag(new DataError(flags, error.details, { cause: error }))
}

/** Parses pairs such as `prompt=question`. */
export function columnsOf(given: readonly string[]): Columns {
  const pairs = given.map((text) => {
    const [name, column] = text.split(/=(.*)/s)
    const known = COLUMN_NAMES.find((one) => one === name)
    if (known === undefined || !column)
      throw new UsageError(
        `--column ${text}: expected one of ${COLUMN_NAMES.join(', ')}, = and a column's name, as in --column prompt=question.`,
      )
    return [known, column]
  })
  return Object.fromEntries(pairs)
}

/** Local path of a model or adapter, after downloading one with a hub name. */
async function onDisk(name: string, output: Output): Promise<string> {
  if (name === STDIN || existsSync(name) || parseHubName(name) === undefined) return name
  return (await locateShown('any', name, output)).path
}

async function recognize(path: string): Promise<Inspection['data']['kind']> {
  if (path === STDIN || (/[*?]/.test(path) && !existsSync(path))) return 'dataset'
  const stats = await stat(path).catch((cause) => {
    throw new FileFormatError(
      `there is nothing at ${path} (${resolve(path)}); ${EXPECTED}`,
      { path },
      { cause },
    )
  })
  if (!stats.isDirectory()) {
    if (await startsLikeGguf(path)) return (await isGgufAdapter(path)) ? 'adapter' : 'model'
    return (await isAdapterFile(path)) ? 'adapter' : kindOfFile(path)
  }
  const names = new Set(await readdir(path))
  if (names.has('training_state.json')) return 'checkpoint'
  if (names.has('adapter_config.json')) return 'adapter'
  if (names.has('config.json')) return 'model'
  if (await holdsOneAdapter(path, names)) return 'adapter'
  if ((await (await import('./inspect/run.js')).checkpointsOf(path)).length > 0) return 'run'
  if (await holdsData(path)) return 'dataset'
  throw unknownKind(
    path,
    'this folder has neither config.json nor adapter_config.json, no checkpoints, and no files of data',
  )
}

async function holdsData(folder: string): Promise<boolean> {
  return (await readdir(folder, { recursive: true })).some((name) => fileTypeByName(name) !== undefined)
}

async function startsLikeGguf(path: string): Promise<boolean> {
  return withInputFile(path, async ({ handle }) => {
    const buffer = Buffer.alloc(4)
    const { bytesRead } = await handle.read(buffer, 0, 4, 0)
    return bytesRead === 4 && buffer.toString('latin1') === 'GGUF'
  })
}

/** Files that are only a part of something. */
const PARTS: readonly [name: RegExp, what: string][] = [
  [/^(adapter_config\.json|adapter_model\.(safetensors|bin))$/, 'an adapter'],
  [/^training_state\.(json|safetensors)$/, 'a checkpoint'],
  [/^lowrank\.json$/, 'an adapter'],
  [
    /^((generation_|tokenizer_|special_tokens_)?(config|map)|tokenizer|model\.safetensors\.index)\.json$/,
    'a model',
  ],
]

function kindOfFile(path: string): 'model' | 'dataset' {
  const [, what] = PARTS.find(([name]) => name.test(basename(path))) ?? []
  if (what !== undefined)
    throw new FileFormatError(`${path} is only a part of ${what}; name its folder: ${dirname(path)}`, {
      path,
    })
  if (fileTypeByName(path) !== undefined) return 'dataset'
  refuseSpreadsheet(path)
  // The model readers explain what is wrong with a broken GGUF file, or which folder to name instead.
  if (/\.(gguf|safetensors|bin|pt|pth)$/i.test(path)) return 'model'
  throw unknownKind(path, 'this file is neither a GGUF file nor a dataset')
}

async function isGgufAdapter(path: string): Promise<boolean> {
  return (await readGgufHeader(path, { strings: false })).metadata.get('general.type') === 'adapter'
}

/** True for a safetensors file with the tensors of an adapter. */
async function isAdapterFile(path: string): Promise<boolean> {
  return path.endsWith('.safetensors') && adapterForm(await readSafetensorsHeader(path)) !== undefined
}

/** True for a folder with no other safetensors than the state dict of an adapter. */
async function holdsOneAdapter(folder: string, names: ReadonlySet<string>): Promise<boolean> {
  const [only, ...others] = [...names].filter((name) => name.endsWith('.safetensors'))
  return only !== undefined && others.length === 0 && isAdapterFile(join(folder, only))
}

const EXPECTED =
  'expected a model folder (config.json), a .gguf file, an adapter folder (adapter_config.json), a checkpoint, the ' +
  'output folder of a run, a dataset (.jsonl, .json, .csv, .tsv, .parquet, .txt), or a config (.yaml).'

function unknownKind(path: string, found: string): FileFormatError {
  return new FileFormatError(`${path} cannot be inspected: ${found}; ${EXPECTED}`, { path })
}
