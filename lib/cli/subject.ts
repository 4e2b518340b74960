/** The model and adapters for `eval`, `generate` and `chat`, from flags or from the config of a run. */
import { existsSync } from 'node:fs'
import { join, resolve } from 'node:path'
import type { Command } from 'commander'
import { formatBytes } from '../core/bytes.js'
import { shellWord } from '../core/system.js'
import { fileTypeByName } from '../data/dataset.js'
import { type LoadOptions, loadModel } from '../model/load.js'
import type { Model } from '../model/model.js'
import { readAdapterFolder } from '../peft/adapter-folder.js'
import { recordedQuantization } from '../peft/sidecar.js'
import { rulesOf } from '../strategies/index.js'
import { listCheckpoints } from '../train/checkpoints/checkpoint-folder.js'
import { loadConfig, loadQuantization, type RunConfig } from '../train/config/config.js'
import { foldersOf } from '../train/folders/output-folder.js'
import { hasEnded } from '../train/records/metrics-file.js'
import type { DatasetConfig } from '../train/sources/data-sources.js'
import { describeBoth, type TrainingDefaults } from '../weights/quantization.js'
import { locateShown } from './download.js'
import { UsageError } from './errors.js'
import { shortPath } from './format.js'
import { collect, integerFlag, notedOn } from './help.js'
import type { Output } from './output.js'
import { DownloadShown, StatusLine } from './progress.js'

export interface SubjectOptions {
  model?: string
  /** false: the base model alone. */
  adapter?: string[] | false
  /** Number of ranks to use in every adapter. */
  rank?: number
  quantization?: string
  embeddingQuantization?: string
  precision?: string
  /** true, or a size such as 8GiB. */
  pagedWeights?: true | string
  device?: string
  threads?: number
  set?: string[]
}

export function subjectFlags(command: Command): void {
  command.argument('[config]', 'the config file of a run: its model, settings and trained adapter')
  command.option('--model <name>', 'a model folder, a .gguf file, or a name on the Hugging Face hub')
  // The parser treats both as one flag, of which the last one wins.
  const given = new Set<string>()
  for (const name of ['adapter', 'no-adapter'])
    command.on(`option:${name}`, () => {
      if (given.add(name).size === 2) throw new UsageError('--adapter and --no-adapter exclude each other.')
    })
  command.option(
    '--adapter <name[=weight]>',
    'an adapter, a folder or file of PEFT or mlx-lm, or a name on the hub (default with a config: its output_dir); repeat to sum several',
    collect,
  )
  command.option('--no-adapter', 'use the base model alone')
  command.option('--rank <N>', 'use the first N ranks of an adapter trained with dylora', integerFlag(1))
  command.option(
    '--quantization <type>',
    "none, nf4, fp4, int8, or keep (default: as in the adapter's training, else none)",
  )
  command.option(
    '--embedding-quantization <type>',
    "the same for the embedding and the head (default: as in the adapter's training, else none, or keep with keep)",
  )
  command.option('--precision <type>', 'auto (default), fp32, or bf16')
  command.option(
    '--paged-weights [size]',
    'keep the weights in a file, with at most this much of them in memory, such as 2GiB (default: chosen)',
  )
  command.option('--device <name>', 'auto (default), cpu, cuda, or cuda:N for one of several GPUs')
  command.option('--threads <N>', 'number of threads', integerFlag(1))
  command.option('--set <key=value>', 'change a key of the config; may be repeated', collect)
}

/** Flags that set the prompt format. */
export interface FormatFlags {
  chat?: boolean
  raw?: boolean
}

export function formatFlags(command: Command, what: string): void {
  command.option('--chat', `render ${what} with the chat template (default: as in the adapter's training)`)
  command.option('--raw', `pass ${what} as raw text`)
}

/** Value of the flags; undefined for the default. */
export function chatTemplateOf({ chat, raw }: FormatFlags): boolean | undefined {
  if (chat && raw) throw new UsageError('--chat and --raw exclude each other.')
  return chat ? true : raw ? false : undefined
}

/** Reads the config, if one is given. */
export async function readSubject(
  path: string | undefined,
  options: SubjectOptions,
  output: Output,
): Promise<RunConfig | undefined> {
  if ((path === undefined) === (options.model === undefined))
    throw new UsageError('pass either a config file or --model.')
  if (path !== undefined) return loadConfig(path, options.set, notedOn(output))
  if (options.set !== undefined)
    throw new UsageError('--set changes keys of a config file; use flags with --model.')
  return undefined
}

/**
 * A dataset at `path`, read like the config's entry for the same path, else like its evaluation data or its
 * training data.
 */
export function dataLike({ dataset: training, evalDataset }: RunConfig, path: string): DatasetConfig {
  const own = [evalDataset, training].find((data) => data?.path === resolve(path))
  const like = own ?? evalDataset ?? training
  // The file type of a .txt file does not apply to a .jsonl file.
  const named = fileTypeByName([like.path].flat()[0] as string)
  const type = fileTypeByName(path)
  const fileType = type === named ? like.fileType : 'auto'
  // Parquet has none to name.
  const encoding = type === 'parquet' ? 'auto' : like.encoding
  return { ...like, path, fileType, encoding, streaming: false }
}

/** An adapter from the command line: its path, and the weight of its output. */
export interface NamedAdapter {
  path: string
  weight: number
}

/** Loads the model with its adapters, runs the work, and frees all of them. */
export async function withSubject<T>(
  config: RunConfig | undefined,
  options: SubjectOptions,
  output: Output,
  signal: AbortSignal,
  work: (model: Model, adapters: readonly NamedAdapter[]) => Promise<T>,
): Promise<T> {
  const path = options.model ?? trainedModel(config as RunConfig, options)
  const adapters = await adaptersOf(config, options, output)
  if (options.rank !== undefined && adapters.length === 0)
    throw new UsageError('--rank needs an adapter, but there is none.')
  const named = adapters.map((adapter) => adapter.path)
  // Adapters come first, because their records determine how the model is loaded.
  const folders: string[] = []
  let labels: readonly string[] | null = null
  for (const name of named) {
    const { path: folder } = await locateShown('adapter', name, output, { signal })
    if (!folder.endsWith('.gguf')) labels ??= (await readAdapterFolder(folder)).labels
    folders.push(folder)
  }
  output.note(`Loading ${path}${named.length === 0 ? '' : ` with ${named.join(', ')}`}`)
  const asked = config && loadQuantization(config)
  const trained = await trainedOver(folders, output)
  const given = {
    quantization: options.quantization ?? asked?.quantization,
    embeddingQuantization:
      options.embeddingQuantization ??
      asked?.embeddingQuantization ??
      (options.quantization === undefined ? trained.embeddingQuantization : undefined),
    defaultQuantization: asked?.defaultQuantization ?? trained.quantization,
    precision: options.precision ?? config?.precision,
    pagedWeights: options.pagedWeights ?? config?.pagedWeights,
    device: options.device ?? config?.device,
    threads: options.threads ?? config?.threads,
    revision: options.model === undefined ? config?.revision : undefined,
    labels: labels ?? undefined,
  }
  const known = Object.fromEntries(Object.entries(given).filter(([, value]) => value !== undefined))
  const model = await loadShown(path, { ...(known as LoadOptions), signal }, output)
  try {
    for (const { path: place, weight } of adapters) {
      const adapter = await model.loadAdapter(place, { signal })
      adapter.weight = weight
      adapter.rank = options.rank ?? null
    }
    return await work(model, adapters)
  } finally {
    await model.dispose()
  }
}

/** Loads a model and shows progress. */
export async function loadShown(path: string, options: LoadOptions, output: Output): Promise<Model> {
  let line = new StatusLine(output, 'Loading')
  let download: DownloadShown | undefined
  try {
    const model = await loadModel(path, {
      onWarning: (message) => output.note(`note: ${message}`),
      ...options,
      onDownload: (progress) => {
        line.clear()
        download ??= new DownloadShown(output, path)
        download.update(progress)
      },
      onProgress: ({ loadedBytes, totalBytes }) => {
        if (download) line = new StatusLine(output, 'Loading')
        download?.end()
        download = undefined
        line.update(`${Math.floor((100 * loadedBytes) / totalBytes)} % of ${formatBytes(totalBytes)}`)
      },
    })
    if (model.device !== 'cpu') output.note(`Running on ${model.device}.`)
    return model
  } finally {
    download?.end()
    line.clear()
  }
}

/** Default quantization: an adapter fits the base that it was trained on. */
async function trainedOver(adapters: readonly string[], output: Output): Promise<TrainingDefaults> {
  const found = new Map<string, [adapter: string, over: TrainingDefaults]>()
  for (const adapter of adapters) {
    const over = await recordedQuantization(adapter)
    if (over.quantization !== undefined) found.set(describeBoth(over), [adapter, over])
  }
  const [[recorded, [first, over] = []] = [], [other, [second] = []] = []] = [...found]
  if (other !== undefined)
    throw new UsageError(
      `${first} was trained over quantization ${recorded} and ${second} over ${other}; select one with --quantization.`,
      Object.fromEntries([...found].map(([words, [adapter]]) => [words, adapter])),
    )
  if (recorded !== undefined && recorded !== 'none')
    output.note(
      `Loading the model in ${recorded}, as in the adapter's training (override with --quantization none)`,
    )
  return over ?? {}
}

/** If the strategy trains the whole model, its output replaces the base. */
function trainedModel({ model, strategy, outputDir }: RunConfig, { adapter }: SubjectOptions): string {
  if (rulesOf(strategy).saves !== 'model' || adapter !== undefined) return model
  if (existsSync(join(outputDir, 'config.json'))) return outputDir
  throw new UsageError(
    `${outputDir} holds no trained model yet; train first, or use --no-adapter for the base alone.`,
    { outputDir },
  )
}

async function adaptersOf(
  config: RunConfig | undefined,
  { adapter }: SubjectOptions,
  output: Output,
): Promise<NamedAdapter[]> {
  if (adapter === false) return []
  if (adapter !== undefined) return adapter.map(namedAdapter)
  if (config === undefined || rulesOf(config.strategy).saves === 'model') return []
  const { outputDir, strategy } = config
  const { runDir } = foldersOf(outputDir, strategy)
  const [checkpoint] = await listCheckpoints(runDir)
  if (existsSync(join(outputDir, 'adapter_config.json'))) {
    if ((await hasEnded(runDir)) === false) {
      const newest =
        checkpoint === undefined
          ? ''
          : `; --adapter ${shellWord(shortPath(checkpoint))} is its newest checkpoint`
      output.note(
        `note: the last run into ${shortPath(outputDir)} has not ended, and this adapter was there before${newest}`,
      )
    }
    return [{ path: outputDir, weight: 1 }]
  }
  const begun =
    checkpoint === undefined
      ? 'train first, pass --adapter,'
      : `finish its run (lowrank train --resume), name its checkpoint (--adapter ${shellWord(shortPath(checkpoint))}),`
  throw new UsageError(
    `${outputDir} holds no trained adapter yet; ${begun} or use --no-adapter for the base alone.`,
    { outputDir },
  )
}

/** Parses `out` or `out=0.5`; a folder name may contain an equals sign. */
function namedAdapter(text: string): NamedAdapter {
  const [, path, weight] = /^(.+)=([^=/]*)$/.exec(text) ?? []
  if (path === undefined || existsSync(text)) return { path: text, weight: 1 }
  const value = Number(weight)
  if (weight?.trim() === '' || !Number.isFinite(value))
    throw new UsageError(
      `--adapter ${text}: the weight is '${weight}', expected a number, as in --adapter ${path}=0.5.`,
    )
  return { path, weight: value }
}
