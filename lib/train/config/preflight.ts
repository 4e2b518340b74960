/**
 * Checks made before the weights of a model are loaded, which may take minutes: the output is writable, the
 * checkpoint is readable, and the data has a known format; and what the memory of a run depends on.
 */
import { existsSync } from 'node:fs'
import { isAbsolute, join } from 'node:path'
import { checkFiles, openDataset, STDIN } from '../../data/dataset.js'
import { encodeChunks, noRows } from '../../data/encode-dataset.js'
import { checkFolder } from '../../io/atomic-folder.js'
import { memoryShapeOf } from '../../options/memory-shape.js'
import type { Optimizer, PagedAdamW } from '../../options/types.js'
import { readAdapterFolder } from '../../peft/adapter-folder.js'
import type { PlanModelOptions, Planner } from '../../planning/plan.js'
import type { MemorySettings } from '../../planning/room.js'
import { usualOptimizer } from '../../planning/usual-optimizer.js'
import { taskRules } from '../../tasks/index.js'
import type { TokenizerOfModel } from '../../tokenizer/source.js'
import type { TrainingDefaults } from '../../weights/quantization.js'
import { type Beginning, checkpointOf, type Resumable } from '../checkpoints/checkpoint-folder.js'
import { foldersOf, outputsOf } from '../folders/output-folder.js'
import { checkRunLock } from '../folders/run-lock.js'
import { encodeOptions, inputOf } from '../rows/data.js'
import type { DatasetConfig } from '../sources/data-sources.js'
import type { RunConfig } from './config.js'

const WAYS_ON = {
  resume: '--resume',
  force: '--force',
  elsewhere: '--set output_dir=OTHER',
}

/**
 * @param writes false if another process writes the run's files
 * @returns the checkpoint to resume from; null for a run from the start
 * @throws what the run itself would throw later; an abort rejects with the signal's reason
 */
export async function checkRun(
  config: RunConfig,
  { resume, force, signal, writes = true }: Beginning & { signal: AbortSignal; writes?: boolean },
): Promise<Resumable | null> {
  const folders = foldersOf(config.outputDir, config.strategy)
  if (writes) {
    for (const folder of new Set([folders.outputDir, folders.runDir])) await checkFolder(folder)
    await checkRunLock(config.outputDir)
  }
  const outputs = outputsOf(config.strategy, config.task, { config: true, report: config.report })
  const checkpoint = await checkpointOf(folders, { resume, force }, outputs, WAYS_ON)
  await checkStart(config, checkpoint)
  const { task, labels } = config
  const asRead = (data: DatasetConfig): DatasetConfig => ({
    ...data,
    format: taskRules(task).rows.form ?? data.format,
  })
  await checkData(asRead(config.dataset))
  if (config.evalDataset !== null) await checkData(asRead(config.evalDataset))
  const tokenizer = tokenizerOnDisk(config.model)
  if (tokenizer === undefined || readsOnce(config.dataset)) return checkpoint
  // Without given labels, the rows cannot be encoded before all of them are read.
  if (taskRules(task).classes && labels === null) return checkpoint
  const options = encodeOptions(config.dataset, config, Date.now())
  const first = encodeChunks(inputOf(config.dataset), tokenizer, options, { rowLimit: 1, signal })
  for await (const _ of first);
  return checkpoint
}

/** Checks that the files of an adapter that the run starts from can be read. */
async function checkStart({ initAdapter: path }: RunConfig, checkpoint: Resumable | null): Promise<void> {
  const isOnDisk = path !== null && (isAbsolute(path) || existsSync(path))
  if (checkpoint === null && isOnDisk && !path.endsWith('.gguf')) await readAdapterFolder(path)
}

/**
 * Checks that all files exist and the first row has a known format.
 * @throws FileFormatError or DataError, as reading all data would
 */
export async function checkData(data: DatasetConfig): Promise<void> {
  if (readsOnce(data)) return
  await checkFiles(data.path, data)
  for await (const _ of openDataset(data.path, data)) return
  throw noRows(inputOf(data))
}

/** True for rows that can be read only once, which a check must not consume. */
function readsOnce({ path, rows }: DatasetConfig): boolean {
  return rows !== undefined || [path].flat().includes(STDIN)
}

/** Undefined for a hub model or anything else that loading has to resolve. */
function tokenizerOnDisk(path: string): TokenizerOfModel | undefined {
  if (existsSync(join(path, 'tokenizer.json'))) return { kind: 'folder', path }
  return /\.gguf$/i.test(path) && existsSync(path) ? { kind: 'gguf', path } : undefined
}

/** The parts of a config that determine the memory. */
export function planShape(config: RunConfig) {
  const { strategy, quantization, embeddingQuantization, precision, threads } = config
  const {
    perDeviceTrainBatchSize,
    maxSeqLength,
    packing,
    metricForBestModel,
    evalGenerate,
    task,
    labels,
    tokenAccuracy,
  } = config
  return {
    strategy,
    task,
    labels,
    ...(quantization && { quantization }),
    ...(embeddingQuantization && { embeddingQuantization }),
    precision,
    threads,
    evaluates: config.evalDataset !== null || config.evalFraction > 0,
    ...{ perDeviceTrainBatchSize, maxSeqLength, packing, metricForBestModel, evalGenerate, tokenAccuracy },
    ...memoryShapeOf(config),
  } satisfies PlanModelOptions
}

/** The settings of a run that its memory depends on, for advice. */
export function memorySettings(config: RunConfig, held: TrainingDefaults): MemorySettings {
  const typeOf = (quantization: TrainingDefaults['quantization']) => quantization?.type ?? 'none'
  return {
    ...config,
    quantization: typeOf(held.quantization),
    embeddingQuantization: typeOf(held.embeddingQuantization),
  }
}

/**
 * The paged optimizer that a run without an `optimizer` option uses on this machine, if the plan does not fit.
 * @param available bytes for the run and its base
 */
export function pagedHere(
  { optimizer: asked, strategy, outputDir }: RunConfig,
  plan: Planner['plan'],
  available: number = process.availableMemory(),
): { paged?: { optimizer: PagedAdamW; peakBytes: number } } {
  if (asked !== null) return {}
  const planned = (optimizer: Optimizer) => plan({ optimizer })
  const { runDir } = foldersOf(outputDir, strategy)
  const optimizer = usualOptimizer(strategy, planned, available, runDir)
  if (typeof optimizer === 'string' || !('resident' in optimizer)) return {}
  return { paged: { optimizer, peakBytes: planned(optimizer).peakBytes } }
}
