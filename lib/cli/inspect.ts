/** `lowrank inspect PATH`: finds out what stands at a path and shows what is in it. Weights are not loaded. */
import { existsSync } from 'node:fs'
import { open, readdir, stat } from 'node:fs/promises'
import { type Command, Option } from 'commander'
import { FileFormatError } from '../errors.js'
import { DATASET_FORMATS } from '../files/dataset.js'
import { TRAIN_ON } from '../files/encode.js'
import { parseHubName } from '../files/hub-name.js'
import { locateShown } from './download.js'
import { examples, integerFlag } from './help.js'
import type { DatasetInspection } from './inspect/dataset.js'
import { Output } from './output.js'
import type { Printed } from './schemas.js'

/** What an inspection found, as data for --json (with `kind` and `path`) and as text. */
export interface Inspection {
  data: Printed<'inspect'>
  text(): string
}

interface Options extends DatasetInspection {
  json?: boolean
}

export function configure(command: Command): void {
  command.argument(
    '<path>',
    'a model folder, .gguf file, adapter folder, checkpoint, output folder, .jsonl dataset, or a name on the hub',
  )
  command.option(
    '--model <name>',
    'of a dataset: count its tokens and show what is learnt, as this model sees it',
  )
  command.option('--max-seq-length <N>', 'with --model: tokens after which a row is cut', integerFlag(2))
  command.addOption(new Option('--train-on <what>', 'with --model: what is learnt').choices(TRAIN_ON))
  command.addOption(new Option('--format <form>', 'of a dataset').choices(['auto', ...DATASET_FORMATS]))
  examples(command, [
    'lowrank inspect models/SmolLM2-135M-Instruct',
    'lowrank inspect out/checkpoint-100',
    'lowrank inspect train.jsonl --model models/SmolLM2-135M-Instruct',
  ])
  command.action(async (path: string, options: Options) => {
    const output = new Output(options.json ?? false)
    const { data, text } = await inspect(await onDisk(path, output), options, output)
    output.answer<'inspect'>(data, text)
  })
}

async function inspect(path: string, options: Options, output: Output): Promise<Inspection> {
  const kind = await recognise(path)
  if (options.model !== undefined && kind !== 'dataset')
    output.note(`note: --model only matters for a dataset; ${path} is a ${kind}`)
  switch (kind) {
    case 'model':
      return (await import('./inspect/model.js')).inspectModel(path)
    case 'adapter':
    case 'checkpoint':
      return (await import('./inspect/adapter.js')).inspectAdapter(path, kind)
    case 'run':
      return (await import('./inspect/run.js')).inspectRun(path)
    case 'dataset':
      return (await import('./inspect/dataset.js')).inspectDataset(path, options, output)
  }
}

/** Where it is, once a model or adapter that is named as on the hub has been downloaded. */
async function onDisk(name: string, output: Output): Promise<string> {
  if (existsSync(name) || parseHubName(name) === undefined) return name
  return (await locateShown('any', name, output)).path
}

async function recognise(path: string): Promise<Inspection['data']['kind']> {
  const stats = await stat(path).catch((cause) => {
    throw new FileFormatError(`${path} does not exist`, { path }, { cause })
  })
  if (!stats.isDirectory()) return (await startsLikeGguf(path)) ? 'model' : kindOfFile(path)
  const names = new Set(await readdir(path))
  if (names.has('training_state.json')) return 'checkpoint'
  if (names.has('adapter_config.json')) return 'adapter'
  if (names.has('config.json')) return 'model'
  if ([...names].some((name) => /^checkpoint-\d+$/.test(name))) return 'run'
  throw unknownKind(path, 'this folder has neither config.json nor adapter_config.json, and no checkpoints')
}

async function startsLikeGguf(path: string): Promise<boolean> {
  const handle = await open(path, 'r')
  try {
    const { buffer, bytesRead } = await handle.read(Buffer.alloc(4), 0, 4, 0)
    return bytesRead === 4 && buffer.toString('latin1') === 'GGUF'
  } finally {
    await handle.close()
  }
}

function kindOfFile(path: string): 'model' | 'dataset' {
  if (/\.(jsonl|ndjson|json)$/i.test(path)) return 'dataset'
  // Readers of models say what is wrong with a broken GGUF file, or which folder to name instead.
  if (/\.(gguf|safetensors|bin|pt|pth)$/i.test(path)) return 'model'
  throw unknownKind(path, 'this file is neither GGUF nor .jsonl')
}

function unknownKind(path: string, found: string): FileFormatError {
  return new FileFormatError(
    `${path} is nothing that can be inspected: ${found}. Expected a model folder (config.json), a .gguf file, an ` +
      'adapter folder (adapter_config.json), a checkpoint, the output folder of a run or a .jsonl dataset.',
    { path },
  )
}
