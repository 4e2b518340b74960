/** Plans a run from its config, as the run itself will plan it, from the headers of the model's files at most. */
import { readdir, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { FileFormatError } from '../errors.js'
import { readJsonObject } from '../files/input.js'
import { openModelFiles } from '../files/model-files.js'
import { MemoryReport } from '../memory.js'
import { resolvePrecision } from '../model.js'
import { graphOf } from '../models/index.js'
import { addon, type Precision } from '../native/addon.js'
import { describeAdapter, linearSites } from '../strategies/describe.js'
import type { RunConfig } from '../train/config.js'
import { trainingPlans } from '../train/plans.js'
import { storageFormats } from '../weights.js'

const CONFIG_LIMIT = 16 << 20

/** What a plan has to know of a model. */
interface ModelShape {
  config: Record<string, unknown>
  /** Of a weight in its file; the one that config.json names where there are no files. */
  dtypeOf(name: string): string
}

export async function planRun(config: RunConfig): Promise<{ memory: MemoryReport; precision: Precision }> {
  const shape = await readShape(config.model)
  const graph = graphOf(shape.config)
  const precision = resolvePrecision(config.precision)
  const exact = config.precision === 'fp32' && config.quantization.type === 'none'
  const formats = storageFormats(graph, shape.dtypeOf, {
    quantization: config.quantization,
    precision,
    exact,
  })
  const { spec } = describeAdapter(config.strategy, linearSites(graph))
  const evaluates = config.evalDataset !== null || config.evalFraction > 0
  const plans = trainingPlans(config, precision, evaluates)
  const threads = config.threads === 'auto' ? undefined : config.threads
  const report = addon().plan(graph, formats, [{ spec, trainable: true }], plans, threads)
  return { memory: new MemoryReport(report), precision }
}

async function readShape(path: string): Promise<ModelShape> {
  const stats = await stat(path).catch((cause) => {
    throw new FileFormatError(`there is no model at ${path}`, { path }, { cause })
  })
  const bare = stats.isDirectory() ? await bareConfig(path) : path.endsWith('.json') ? path : undefined
  if (bare !== undefined) {
    const config = await readJsonObject(bare, CONFIG_LIMIT)
    const dtype = namedDtype(config)
    return { config, dtypeOf: () => dtype }
  }
  const { config, tensors } = await openModelFiles(path)
  return { config, dtypeOf: (name) => tensors.get(name)?.dtype ?? namedDtype(config) }
}

/** The config of a folder whose weights have not been downloaded. */
async function bareConfig(folder: string): Promise<string | undefined> {
  const names = await readdir(folder)
  const weights = names.some(
    (name) => name.endsWith('.safetensors') || name.endsWith('.safetensors.index.json'),
  )
  return names.includes('config.json') && !weights ? join(folder, 'config.json') : undefined
}

function namedDtype(config: Record<string, unknown>): string {
  const name = config.dtype ?? config.torch_dtype
  if (name === 'bfloat16') return 'BF16'
  return name === 'float16' ? 'F16' : 'F32'
}
