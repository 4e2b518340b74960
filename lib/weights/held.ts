/** Loads a model's weights into memory, or maps them from a cached file. */
import { existsSync } from 'node:fs'
import { FileFormatError, WriteError } from '../core/errors.js'
import type { TensorSource } from '../formats/tensor-source.js'
import type { Graph } from '../graph/graph.js'
import { cleanUp } from '../io/cleanup.js'
import {
  addon,
  type CardSizes,
  type NativeModel,
  type NativeWeightFile,
  type StorageFormat,
} from '../native/addon.js'
import { translated, translatedAsync } from '../native/errors.js'
import { warnOfRemarks } from '../native/remarks.js'
import {
  makeRoom,
  ownWeightFolder,
  type WeightCacheSettings,
  type WeightOrigin,
  weightCacheSettings,
  weightKey,
  weightPath,
  writeWeightFile,
} from './cache.js'
import { hasItsBytes, removeWeightFile, touchWeightFile } from './record.js'
import { eachWeight, type LoadControl, loadWeights } from './weights.js'

/** Faster loads are not worth caching. */
const WORTH_KEEPING_MS = 500

/** A model whose weights have not been loaded. */
export interface HollowModel {
  native: NativeModel
  graph: Graph
  /** See `matchWeights`. */
  sources: readonly TensorSource[]
  formats: Readonly<Record<string, StorageFormat>>
  /** The GPU through which a paged base is streamed; undefined on the CPU. */
  card: CardSizes | undefined
  origin: Omit<WeightOrigin, 'files' | 'formats'>
}

export interface HoldOptions extends LoadControl {
  /** Whether to look for a cached file, and to write one if loading took long. */
  cached: boolean
  /** Whether the file of a paged base may be kept in the cache. */
  kept: boolean
  /** Memory budget for the weights in bytes, or 0 to choose one; undefined to load all of them. */
  paged: number | undefined
}

/** Loads or maps all weights of a model. Cached weights are byte-identical to loaded ones. */
export async function holdWeights(model: HollowModel, options: HoldOptions): Promise<void> {
  const { cached, kept, paged, ...control } = options
  const settings = weightCacheSettings()
  if (paged === undefined && !(cached && settings.keeps))
    return loadWeights(model.native, model.sources, model.formats, control)
  const { sources, formats } = model
  const origin = { ...model.origin, formats, files: sources.map(({ file }) => file) }
  const key = await weightKey(origin)
  const path = weightPath(settings.folder, origin, key)
  if (existsSync(settings.folder)) {
    await ownWeightFolder(settings.folder)
    await makeRoom(settings, 0)
  }
  if (await mapWeights(model, path, key, paged)) return allLoaded(sources, control)
  if (paged === undefined) return loadAndKeep(model, settings, path, key, control)
  // Rejects a budget below the minimum before anything is written.
  const bytes = heldBytes(model)
  translated(() => addon().plan(model.graph, formats, [], {}, model.card, paged))
  const keeps = kept && settings.keeps && bytes <= settings.limitBytes
  if (keeps) await makeRoom(settings, bytes)
  await writeWeightFile(path, (temporary) => storeWeights(model, temporary, key, control))
  const mapped = await mapWeights(model, path, key, paged)
  // An unlinked file is freed when the model is.
  if (!keeps) await cleanUp(path, () => removeWeightFile(path))
  if (!mapped)
    throw new FileFormatError(`${path} was removed or changed while it was read; try again.`, { path })
}

async function loadAndKeep(
  model: HollowModel,
  settings: WeightCacheSettings,
  path: string,
  key: string,
  control: LoadControl,
): Promise<void> {
  const start = performance.now()
  await loadWeights(model.native, model.sources, model.formats, control)
  if (performance.now() - start < WORTH_KEEPING_MS) return
  const bytes = heldBytes(model)
  if (bytes > settings.limitBytes) return
  try {
    await makeRoom(settings, bytes)
    await writeWeightFile(path, (temporary) => copyWeights(model, temporary, key))
  } catch (error) {
    if (!(error instanceof WriteError)) throw error
    process.emitWarning(
      `The quantized weights could not be cached: ${error.message}. Set LOWRANK_WEIGHT_CACHE to another folder or to off.`,
      { code: 'LOWRANK_WEIGHT_CACHE' },
    )
  }
}

function allLoaded(sources: readonly TensorSource[], { onProgress }: LoadControl): void {
  const totalBytes = sources.reduce((sum, { bytes }) => sum + bytes, 0)
  onProgress?.({ tensor: sources.at(-1)?.name ?? '', loadedBytes: totalBytes, totalBytes })
}

/** Total size of all weights, in bytes. */
function heldBytes({ graph, formats }: HollowModel): number {
  return translated(() => addon().plan(graph, formats, [], {})).peakBytes
}

/** Maps the file if it exists and is valid; deletes an invalid one. */
async function mapWeights(
  { native, formats }: HollowModel,
  path: string,
  key: string,
  paged: number | undefined,
): Promise<boolean> {
  if (!existsSync(path)) return false
  if (!(await hasItsBytes(path))) {
    process.emitWarning(`${path} is damaged: its content does not match its hash. It is written again.`, {
      code: 'LOWRANK_WEIGHT_CACHE',
    })
    await removeWeightFile(path)
    return false
  }
  try {
    const { livesInMemory, pinned } = await translatedAsync(
      () => native.mapWeights(path, key, formats, paged).promise,
    )
    warnOfRemarks()
    if (paged !== undefined && livesInMemory && !pinned)
      process.emitWarning(
        `The weights are paged from ${path}, whose file system keeps its files in memory, so this saves no memory; set LOWRANK_WEIGHT_CACHE to a folder on a disk.`,
        { code: 'LOWRANK_PAGED_IN_MEMORY' },
      )
  } catch (error) {
    if (!(error instanceof FileFormatError)) throw error
    await removeWeightFile(path).catch(() => undefined)
    return false
  }
  await touchWeightFile(path)
  return true
}

/** Writes loaded weights to a cached file. */
function copyWeights(model: HollowModel, path: string, key: string): Promise<void> {
  return makeFile(model, { path, key }, async (file) => {
    for (const { name } of model.sources) await translatedAsync(() => file.copy(name).promise)
  })
}

/** Writes weights to a file without keeping them in memory. */
function storeWeights(model: HollowModel, path: string, key: string, control: LoadControl): Promise<void> {
  return makeFile(model, { path, key, putAway: true }, (file) =>
    eachWeight(model.sources, control, (source) => file.store(source.name, source)),
  )
}

async function makeFile(
  { native, formats }: HollowModel,
  options: { path: string; key: string; putAway?: boolean },
  fill: (file: NativeWeightFile) => Promise<void>,
): Promise<void> {
  const file = translated(() => addon().createWeightFile(native, { ...options, formats }))
  try {
    await fill(file)
    await translatedAsync(() => file.finish().promise)
  } finally {
    await file.dispose()
  }
}
