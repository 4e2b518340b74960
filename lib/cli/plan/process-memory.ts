/**
 * Memory of a training process in addition to its plan: Node.js with this package, the JavaScript heap, and the
 * data. The first two are measured by a short run of the bundled model, once per machine, and cached. This is
 * an estimate, since the garbage collector decides when memory is released.
 */
import { execFile } from 'node:child_process'
import { mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { release, tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { nodeProgram, packageScript } from '../../core/node-program.js'
import { packageRoot } from '../../core/root.js'
import { expandPaths, STDIN } from '../../data/dataset/files.js'
import { figuresFile, keepFigures } from '../../time/kept-figures.js'
import type { MetricsLine } from '../../train/records/event-schemas.js'
import type { DatasetConfig } from '../../train/sources/data-sources.js'

/** Memory of a process in addition to the plan, in bytes. */
export interface ProcessMemory {
  /** Node.js, this package, and the JavaScript heap during training. */
  runtimeBytes: number
  /** Tokens of the data, which stay in memory; 0 for streamed data. */
  dataBytes: number
}

/** A token takes slightly more than four bytes, and represents about four bytes of text. */
const BYTES_PER_TEXT_BYTE = 1.1
const ROWS = 32
/**
 * Additional growth of the JavaScript heap for a model of usual depth and vocabulary
 * (benchmarks/process-memory.mjs).
 */
const USUAL_MODEL_BYTES = 15 * 2 ** 20

/** @param onMeasure called before a measurement, which takes a few seconds */
export async function processMemory(
  data: readonly DatasetConfig[],
  control: { signal?: AbortSignal; onMeasure?: () => void } = {},
): Promise<ProcessMemory> {
  const sizes = await Promise.all(data.map(dataBytes))
  const runtime = (await runtimeBytes(control)) + USUAL_MODEL_BYTES
  return { runtimeBytes: runtime, dataBytes: sizes.reduce((sum, one) => sum + one, 0) }
}

async function dataBytes({ path, streaming }: DatasetConfig): Promise<number> {
  if (streaming) return 0
  const files = await expandPaths([path].flat(), undefined).catch(() => [])
  const sizes = await Promise.all(
    files
      .filter((file) => file !== STDIN)
      .map((file) =>
        stat(file).then(
          ({ size }) => size,
          () => 0,
        ),
      ),
  )
  return Math.round(BYTES_PER_TEXT_BYTE * sizes.reduce((sum, size) => sum + size, 0))
}

async function runtimeBytes({
  signal,
  onMeasure,
}: {
  signal?: AbortSignal | undefined
  onMeasure?: () => void
}): Promise<number> {
  // Cached per system release, Node.js version, and executable.
  const place = await figuresFile('process-memory', [release(), process.version, process.execPath])
  const kept = await readFile(place, 'utf8').then(keptBytes, () => undefined)
  if (kept !== undefined) return kept
  onMeasure?.()
  const bytes = await measure(signal)
  await keepFigures(place, { version: 1, runtime_bytes: bytes })
  return bytes
}

function keptBytes(text: string): number | undefined {
  try {
    const { runtime_bytes: bytes } = JSON.parse(text) as { runtime_bytes?: unknown }
    return typeof bytes === 'number' && bytes > 0 ? bytes : undefined
  } catch {
    return undefined
  }
}

/** Peak memory of a run of the bundled model, minus its plan. */
async function measure(signal: AbortSignal | undefined): Promise<number> {
  const folder = await mkdtemp(join(tmpdir(), 'lowrank-process-'))
  try {
    const rows = (await readFile(join(packageRoot, 'demo', 'train.jsonl'), 'utf8')).split('\n').slice(0, ROWS)
    await writeFile(join(folder, 'rows.jsonl'), rows.join('\n'))
    const config = {
      model: join(packageRoot, 'demo', 'base'),
      ...{ strategy: { name: 'lora' }, dataset: 'rows.jsonl', eval_dataset: 'rows.jsonl', output_dir: 'out' },
      ...{ max_steps: 4, save_steps: 2, per_device_train_batch_size: 4, max_seq_length: 256 },
    }
    await writeFile(join(folder, 'run.yaml'), JSON.stringify(config))
    const main = packageScript('dist', 'esm', 'cli', 'main.js')
    const { execPath, env } = nodeProgram()
    const { stdout } = await promisify(execFile)(execPath, [main, 'train', 'run.yaml', '--json'], {
      cwd: folder,
      env,
      signal,
    })
    const events = stdout
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line) as MetricsLine)
    const peak = events.find((event) => event.event === 'done')?.peak_rss_bytes ?? 0
    const planned = events.find((event) => event.event === 'plan')?.peak_bytes ?? 0
    return peak > planned ? peak - planned : process.memoryUsage.rss()
  } catch {
    signal?.throwIfAborted()
    // If the bundled model cannot run, this process is measured instead.
    return process.memoryUsage.rss()
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
}
