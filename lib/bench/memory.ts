/** Planned and measured memory of training, and its chart, as in figure 1 of the QLoRA paper. */

import { type ChildProcess, fork } from 'node:child_process'
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { basename, dirname, join, resolve } from 'node:path'
import { formatBytes } from '../core/bytes.js'
import { DataError, UnsupportedError } from '../core/errors.js'
import { compiledScript, nodeProgram, permitted } from '../core/node-program.js'
import { systemName } from '../core/system.js'
import type { LoadOptions } from '../model/load.js'
import { SHAPES } from '../models/shapes.js'
import { addon, type PlanRow } from '../native/addon.js'
import type { MemoryShape } from '../options/types.js'
import { planModel } from '../planning/plan.js'
import { type Bar, barChart } from '../report/chart/index.js'
import { CATEGORY_COLORS, categoryName } from '../report/run-memory.js'
import { listStrategies } from '../strategies/index.js'
import type { StrategyConfig } from '../strategies/strategy.js'
import { int8, nf4 } from '../weights/quantization.js'
import { compared } from './compared.js'
import type { MeasuredTraining, Stage } from './memory-process.js'
import { FIGURE_WIDTH, figureSvg } from './pictures.js'

/** A training method whose memory is compared with others'. */
export interface Method extends Partial<MemoryShape> {
  readonly name: string
  readonly strategy: StrategyConfig
  readonly quantization: NonNullable<LoadOptions['quantization']>
  readonly embeddingQuantization?: NonNullable<LoadOptions['embeddingQuantization']>
}

export interface MemorySettings {
  /** Rank of adapters, on all linear layers. */
  rank: number
  perDeviceTrainBatchSize: number
  maxSeqLength: number
  gradientCheckpointing: boolean
  precision: 'auto' | 'fp32' | 'bf16'
}

/** Memory of a process as reported by the kernel, in bytes. */
interface Resident {
  rss: number
  peak: number
  anonymous: number
  file: number
}

export interface MemoryMeasurement {
  /** Resident memory once Node.js and the addon are loaded, before the model; and the private part of it. */
  idleBytes: number
  idleAnonymousBytes: number
  /** Peak resident memory above that: while the model is loaded, and from then to the end of the last step. */
  loadPeakBytes: number
  peakBytes: number
  /** Parts of `peakBytes`, sampled every few milliseconds: private memory, and file pages. */
  anonymousBytes: number
  fileBytes: number
  /** The same with pages shared with other processes counted proportionally (PSS), sampled a few times per second. */
  pssAnonymousBytes: number
  pssFileBytes: number
  /**
   * Page cache of the files from which the weights were mapped, for all processes; absent if no such file has a name.
   */
  cachedWeightBytes?: number
}

export interface MemoryBar {
  model: string
  method: string
  /** Planned peak of the same run, by category. */
  plannedBytes: number
  rows: readonly PlanRow[]
  /** Absent if the training was only planned. */
  measured?: MemoryMeasurement
}

export interface StudyProgress {
  signal?: AbortSignal | undefined
  onMethod?(what: string, done: number, total: number): void
}

type Variant = Omit<Method, 'name' | 'strategy' | 'quantization'>

/** Variants of full fine-tuning and QLoRA with nondefault options. */
const VARIANTS: ReadonlyMap<string, readonly [of: string, how: Variant]> = new Map([
  ['full-in-backward', ['full', { optimizerInBackward: true }]],
  ['qlora-8bit', ['qlora', { optimizer: 'adamw_8bit' }]],
  ['qlora-paged', ['qlora', { optimizer: 'adamw_8bit', pagedWeights: true }]],
  ['qlora-int8-embedding', ['qlora', { embeddingQuantization: int8() }]],
  ['qlora-nf4-embedding', ['qlora', { embeddingQuantization: nf4() }]],
])

/** Names accepted by `methodOf`. */
export const METHOD_NAMES: readonly string[] = [
  'full',
  ...listStrategies().map(({ name }) => name),
  ...VARIANTS.keys(),
]

/** Resolves a method name: a strategy, with 16-bit weights except for QLoRA, or a variant. */
export function methodOf(name: string, rank: number): Method {
  const [of, how] = VARIANTS.get(name) ?? [name, {}]
  const quantization = of === 'qlora' ? nf4({ doubleQuant: true }) : 'none'
  return { name, strategy: compared(of, rank), quantization, ...how }
}

export function planOptions({ name: _, ...method }: Method, { rank: __, ...settings }: MemorySettings) {
  return { optimizer: 'adamw' as const, pagedWeights: false, ...settings, ...method }
}

/** Measures the memory of methods on a local model. */
export async function measuredBars(
  model: string,
  methods: readonly Method[],
  settings: MemorySettings,
  { signal, onMethod }: StudyProgress = {},
): Promise<MemoryBar[]> {
  if (process.platform !== 'linux')
    throw new UnsupportedError(
      `memory is measured by /proc, which only Linux has; this is ${systemName(process.platform)}. lowrank plan prints the planned peak.`,
      { platform: process.platform },
    )
  // Plan everything before the first measurement, so that invalid settings fail immediately.
  const planned = await barsOf(model, model, methods, settings)
  const bars: MemoryBar[] = []
  for (const [done, method] of methods.entries()) {
    signal?.throwIfAborted()
    onMethod?.(method.name, done, methods.length)
    const options = planOptions(method, settings)
    const { strategy, precision, quantization, embeddingQuantization, pagedWeights, ...training } = options
    const load = {
      ...{ precision, quantization, pagedWeights },
      ...(embeddingQuantization && { embeddingQuantization }),
    }
    // Updates in the backward pass cannot clip, so clipping is off for all methods.
    const job: MeasuredTraining = {
      ...{ model, load, strategy, training: { ...training, maxGradNorm: 0 }, steps: 2 },
    }
    const measured = await measure(job, signal)
    bars.push({ ...(planned[done] as MemoryBar), measured })
  }
  return bars
}

/**
 * Plans the memory of methods on models given only by their shapes.
 * @param shapes names of well-known models, or paths of a config.json, a model folder, or a .gguf file
 */
export async function plannedBars(
  shapes: readonly string[],
  methods: readonly Method[],
  settings: MemorySettings,
): Promise<MemoryBar[]> {
  const folder = await mkdtemp(join(tmpdir(), 'lowrank-shapes-'))
  const file = join(folder, 'config.json')
  try {
    const bars: MemoryBar[] = []
    for (const shape of shapes) {
      const known = SHAPES.get(shape)
      if (known !== undefined) await writeFile(file, JSON.stringify(known))
      bars.push(...(await barsOf(shape, known === undefined ? shape : file, methods, settings)))
    }
    return bars
  } finally {
    await rm(folder, { recursive: true })
  }
}

async function barsOf(
  model: string,
  path: string,
  methods: readonly Method[],
  settings: MemorySettings,
): Promise<MemoryBar[]> {
  const bars: MemoryBar[] = []
  for (const method of methods) {
    const { peakBytes: plannedBytes, rows } = await planModel(path, planOptions(method, settings))
    bars.push({ model, method: method.name, plannedBytes, rows })
  }
  return bars
}

/** Runs the training in a separate process and measures its memory from outside. */
async function measure(job: MeasuredTraining, signal?: AbortSignal): Promise<MemoryMeasurement> {
  const child = permitted('measurements of memory', () =>
    fork(compiledScript('bench', 'memory-process.js'), [], {
      ...nodeProgram(),
      signal,
    }),
  )
  const most = { anonymous: 0, file: 0 }
  const shared = { anonymous: 0, file: 0, cached: -1 }
  const look = async () => {
    const { anonymous, file } = await resident(child).catch(() => ({ anonymous: 0, file: 0 }))
    most.anonymous = Math.max(most.anonymous, anonymous)
    most.file = Math.max(most.file, file)
  }
  let looking = false
  const lookShared = async () => {
    if (looking) return
    looking = true
    const now = await proportional(child).catch(() => undefined)
    looking = false
    for (const key of ['anonymous', 'file', 'cached'] as const)
      shared[key] = Math.max(shared[key], now?.[key] ?? shared[key])
  }
  let idle: Resident = { rss: 0, peak: 0, anonymous: 0, file: 0 }
  let loadPeak = 0
  let watches: NodeJS.Timeout[] = []
  try {
    return await new Promise((done, fail) => {
      const at = async (stage: Stage) => {
        if (stage.at === 'failed')
          throw new DataError(`${job.strategy.name} on ${job.model}: ${stage.message}`)
        const now = await resident(child)
        if (stage.at === 'trained') {
          await Promise.all([look(), lookShared()])
          return done({
            ...{ idleBytes: idle.rss, idleAnonymousBytes: idle.anonymous },
            ...{ loadPeakBytes: loadPeak, peakBytes: now.peak - idle.rss },
            ...{ anonymousBytes: most.anonymous, fileBytes: most.file },
            ...{ pssAnonymousBytes: shared.anonymous, pssFileBytes: shared.file },
            ...(shared.cached < 0 ? {} : { cachedWeightBytes: shared.cached }),
          })
        }
        if (stage.at === 'idle') idle = now
        else {
          loadPeak = now.peak - idle.rss
          // The second poll scans all pages, which blocks the process, so it is less frequent.
          watches = [setInterval(look, 5), setInterval(lookShared, 200)]
        }
        await resetPeak(child)
        child.send({})
      }
      child.on('message', (stage: Stage) => at(stage).catch(fail))
      child.on('error', fail)
      child.on('exit', (code, by) =>
        fail(
          new DataError(`the measured process ended before its training did (${by ?? `exit code ${code}`}).`),
        ),
      )
      child.send(job)
    })
  } finally {
    for (const watch of watches) clearInterval(watch)
    // The process waits for a reply, whatever happened to the training.
    child.kill('SIGKILL')
  }
}

async function resident({ pid }: ChildProcess): Promise<Resident> {
  const status = await readFile(`/proc/${pid}/status`, 'latin1')
  const of = (key: string) => 1024 * Number(new RegExp(`^${key}:\\s+(\\d+) kB`, 'm').exec(status)?.[1] ?? 0)
  return { rss: of('VmRSS'), peak: of('VmHWM'), anonymous: of('RssAnon'), file: of('RssFile') }
}

/** The process's memory with shared pages counted proportionally, and the page cache of its weights. */
async function proportional({
  pid,
}: ChildProcess): Promise<{ anonymous: number; file: number; cached: number }> {
  const [rollup, maps] = await Promise.all(
    ['smaps_rollup', 'maps'].map((name) => readFile(`/proc/${pid}/${name}`, 'latin1')),
  )
  const of = (key: string) =>
    1024 * Number(new RegExp(`^${key}:\\s+(\\d+) kB`, 'm').exec(rollup ?? '')?.[1] ?? 0)
  const files = new Set(maps?.match(/(?<= )\/.*\.weights$/gm))
  const cached = [...files].map((path) => addon().cachedBytes(path)).reduce((sum, one) => sum + one, 0)
  return { anonymous: of('Pss_Anon'), file: of('Pss_File'), cached: files.size > 0 ? cached : -1 }
}

/** Resets VmHWM, so that it is the peak from here on (proc(5), clear_refs). */
function resetPeak({ pid }: ChildProcess): Promise<void> {
  return writeFile(`/proc/${pid}/clear_refs`, '5')
}

/** Bars of the planned peak by category, with a mark at the measured value. */
export function memoryChart(bars: readonly MemoryBar[], settings: MemorySettings): string {
  const { perDeviceTrainBatchSize: batch, maxSeqLength, rank } = settings
  const sequences = batch === 1 ? 'one sequence' : `${batch} sequences`
  const measured = bars.some((bar) => bar.measured)
  const group = (own: readonly MemoryBar[], how: string) =>
    [...new Set(own.map(({ model }) => model))].map((model) => ({
      name: `${modelName(model)} (${how})`,
      bars: own.filter((bar) => bar.model === model).map(barOf),
    }))
  const title = 'Memory of training, by method'
  const chart = barChart({
    ...{ title, width: FIGURE_WIDTH, format: formatBytes, markName: 'measured', legend: true },
    groups: [
      ...group(
        bars.filter((bar) => bar.measured),
        'measured',
      ),
      ...group(
        bars.filter((bar) => !bar.measured),
        'planned',
      ),
    ],
  })
  const lines = [
    `Peak of a step on ${sequences} of ${maxSeqLength} tokens; adapters of rank ${rank} on all linears`,
    `Bars: planned, by category.${measured ? ' Lines across: measured.' : ''} Every model has a scale of its own.`,
  ]
  return figureSvg(chart, title, lines)
}

function barOf({ method, rows, measured }: MemoryBar): Bar {
  return {
    name: method,
    parts: rows
      .filter(({ bytes }) => bytes > 0)
      .map(({ category, bytes }) => ({
        ...{ name: categoryName(category), value: bytes, color: CATEGORY_COLORS[category] ?? 8 },
      })),
    ...(measured ? { mark: measured.peakBytes } : {}),
  }
}

/** The last component of a path; a config.json is named after its folder. */
function modelName(model: string): string {
  const path = SHAPES.has(model) ? model : resolve(model)
  return basename(path) === 'config.json' ? basename(dirname(path)) : basename(path)
}
