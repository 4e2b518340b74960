/** Brings a model's weights to where they are held: into memory, or mapped from a file that was made of them before. */
import { existsSync } from 'node:fs'
import { rm } from 'node:fs/promises'
import { FileFormatError, WriteError } from './errors.js'
import type { TensorSource } from './files/tensor-source.js'
import {
  makeRoom,
  touchWeightFile,
  type WeightOrigin,
  weightCacheSettings,
  weightKey,
  weightPath,
  writeWeightFile,
} from './files/weight-cache.js'
import type { Graph } from './graph/graph.js'
import { addon, type NativeModel, type StorageFormat } from './native/addon.js'
import { translated, translatedAsync } from './native/errors.js'
import { type LoadControl, loadWeights } from './weights.js'

/** A load that takes less is not worth a file. */
const WORTH_KEEPING_MS = 500

/** A model before its weights are there. */
export interface HollowModel {
  native: NativeModel
  graph: Graph
  /** See `matchWeights`. */
  sources: readonly TensorSource[]
  formats: Readonly<Record<string, StorageFormat>>
  origin: Omit<WeightOrigin, 'files' | 'formats'>
}

/**
 * Fills a model.
 * @param options.cached whether a file of the same weights is looked for, and made where the load took its time. What comes
 * from the file is the same to the byte.
 */
export async function holdWeights(
  model: HollowModel,
  { cached, ...control }: LoadControl & { cached: boolean },
): Promise<void> {
  const { native, sources, formats } = model
  const settings = weightCacheSettings()
  if (!cached || !settings.keeps) return loadWeights(native, sources, formats, control)
  const origin = { ...model.origin, formats, files: sources.map(({ file }) => file) }
  const key = await weightKey(origin)
  const path = weightPath(settings.folder, origin, key)
  if (await mapWeights(model, path, key)) {
    const totalBytes = sources.reduce((sum, { bytes }) => sum + bytes, 0)
    control.onProgress?.({ tensor: sources.at(-1)?.name ?? '', loadedBytes: totalBytes, totalBytes })
    return
  }
  const start = performance.now()
  await loadWeights(native, sources, formats, control)
  if (performance.now() - start < WORTH_KEEPING_MS) return
  const bytes = heldBytes(model)
  if (bytes > settings.limitBytes) return
  try {
    await makeRoom(settings, bytes)
    await writeWeightFile(path, (temporary) => copyWeights(model, temporary, key))
  } catch (error) {
    if (!(error instanceof WriteError)) throw error
    process.emitWarning(
      `The weights could not be kept for the next time: ${error.message}. LOWRANK_WEIGHT_CACHE names another folder, or is off.`,
      { code: 'LOWRANK_WEIGHT_CACHE' },
    )
  }
}

/** Bytes that all weights take. */
function heldBytes({ graph, formats }: HollowModel): number {
  return translated(() => addon().plan(graph, formats, [], {})).peakBytes
}

/** Maps the file if it is there and what it should be; another one goes. */
async function mapWeights({ native, formats }: HollowModel, path: string, key: string): Promise<boolean> {
  if (!existsSync(path)) return false
  try {
    await translatedAsync(() => native.mapWeights(path, key, formats).promise)
  } catch (error) {
    if (!(error instanceof FileFormatError)) throw error
    await rm(path, { force: true }).catch(() => undefined)
    return false
  }
  await touchWeightFile(path)
  return true
}

/** Writes loaded weights. */
async function copyWeights({ native, sources, formats }: HollowModel, path: string, key: string) {
  const file = translated(() => addon().createWeightFile(native, { path, key, formats }))
  try {
    for (const { name } of sources) await translatedAsync(() => file.copy(name).promise)
    await translatedAsync(() => file.finish().promise)
  } finally {
    file.dispose()
  }
}
