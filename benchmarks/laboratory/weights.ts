/** Weights of linear layers as held by a model, before and after training. */
import { readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { readSafetensorsHeader, readTensor } from '../../lib/formats/safetensors.js'
import type { Adapter } from '../../lib/model/adapter.js'
import type { StudyBench } from './study.js'

/** A row-major matrix. */
export interface Matrix {
  rows: number
  cols: number
  values: Float32Array
}

/** Weights of the given layers by path: of the model alone, or with an adapter merged. */
export async function weightsOf(
  bench: StudyBench,
  paths: readonly string[],
  adapter: Adapter | null,
): Promise<Map<string, Matrix>> {
  return bench.inFolder(async (folder) => {
    const target = join(folder, 'model')
    const options = { dtype: 'f32', check: false } as const
    await (adapter === null
      ? bench.model.save(target, { ...options, adapters: [] })
      : adapter.merge(target, options))
    const files = (await readdir(target)).filter((name) => name.endsWith('.safetensors'))
    const found = new Map<string, Matrix>()
    for (const file of files) {
      const header = await readSafetensorsHeader(join(target, file))
      for (const path of paths) {
        const tensor = header.tensors.get(`${path}.weight`)
        if (tensor === undefined) continue
        const [rows = 0, cols = 0] = tensor.shape
        const { buffer } = await readTensor(header, tensor.name)
        found.set(path, { rows, cols, values: new Float32Array(buffer as ArrayBuffer) })
      }
    }
    return found
  })
}
