/**
 * Measures training speed on this machine for a setting, using steps of small models with the same blocks, and caches
 * it. An error here only leaves the time unknown.
 */
import { spawn } from 'node:child_process'
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { availableParallelism, cpus, tmpdir } from 'node:os'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import * as z from 'zod'
import { compiledScript, nodeProgram } from '../core/node-program.js'
import { addon } from '../native/addon.js'
import { translatedAsync } from '../native/errors.js'
import { timedOptions } from '../options/memory-shape.js'
import { nativeOptimizer, optimizerOf } from '../options/optimizers.js'
import type { StepSetting } from '../planning/step-setting.js'
import type { Trial, TrialRequest, TrialTimes } from './child.js'
import { ratesOf, type StepRates, type StepWork, type Timed } from './estimate.js'
import { figuresFile, hashed, keepFigures } from './kept-figures.js'
import { type LaidOut, layOut, miniatures } from './setting.js'

export interface MeasureControl {
  signal?: AbortSignal | undefined
  /** Called before a measurement, which takes a few seconds. */
  onMeasure?: (() => void) | undefined
  /** Seconds of timing; more helps when other processes compete for the CPU. */
  seconds?: number | undefined
}

/** Target duration of one step of a miniature. */
const STEP_SECONDS = 0.15
const TIMING_SECONDS = 1.2
/** Timeout of a measurement. */
const LIMIT_MS = 60_000
/** Approximate fraction of the arithmetic peak reached in training. */
const SHARE_OF_PEAK = 0.5
/**
 * Operations per second assumed for a level without a peak measurement, and the minimum per thread for other levels,
 * however busy the machine.
 */
const [SLOW, LEAST_PEAK] = [2e9, 20e9]
const PEAK_ROUNDS = 5
/** Maximum fraction of the available memory to use. */
const SHARE_OF_MEMORY = 0.5
const KEPT_SETTINGS = 200

const rates = z.object({
  blocks: z.number().positive(),
  head: z.number().positive(),
  tokenSeconds: z.number().nonnegative(),
  updateSeconds: z.number().nonnegative(),
}) satisfies z.ZodType<StepRates>
const kept = z.object({ version: z.literal(1), settings: z.record(z.string(), rates) })

/** True if LOWRANK_MEASURE turns measuring off. */
export const measuringIsOff = (): boolean => process.env.LOWRANK_MEASURE === 'off'

/**
 * The rates of a setting on this machine; undefined if they cannot be measured. Aborting rejects with the signal's
 * reason.
 */
export async function measuredRates(
  setting: StepSetting,
  laidOut: LaidOut,
  threads: number,
  { signal, onMeasure, seconds = TIMING_SECONDS }: MeasureControl = {},
): Promise<StepRates | undefined> {
  const place = await keptAt(threads)
  const key = keyOf(setting, laidOut)
  const known = (await readKept(place))[key]
  if (known !== undefined) return known
  onMeasure?.()
  try {
    const found = await measure(setting, laidOut.work, { threads, seconds }, signal)
    if (found !== undefined) await keep(place, key, found)
    return found
  } catch {
    signal?.throwIfAborted()
    return undefined
  }
}

/** One file per CPU model, level, and number of threads. */
function keptAt(threads: number): Promise<string> {
  const [{ model = '' } = {}] = cpus()
  return figuresFile('step-time', [model, availableParallelism(), addon().cpu().isa, threads])
}

/** Everything that a setting's rates depend on. */
function keyOf(
  { config, strategy, precision, options }: StepSetting,
  { graph, formats, state }: LaidOut,
): string {
  const { perDeviceTrainBatchSize, maxSeqLength } = options
  const shape = [perDeviceTrainBatchSize, maxSeqLength, ...timedOptions(options)]
  return hashed([config, graph.weights.map(({ name }) => formats[name]), strategy, precision, shape, state])
}

async function readKept(place: string): Promise<Record<string, StepRates>> {
  try {
    return kept.parse(JSON.parse(await readFile(place, 'utf8'))).settings
  } catch {
    // The file is missing or damaged.
    return {}
  }
}

async function keep(place: string, key: string, found: StepRates): Promise<void> {
  const others = Object.entries(await readKept(place)).slice(1 - KEPT_SETTINGS)
  const settings = Object.fromEntries([...others, [key, found]])
  await keepFigures(place, { version: 1, settings })
}

async function measure(
  setting: StepSetting,
  work: StepWork,
  how: Omit<TrialRequest, 'trials' | 'folder'>,
  signal: AbortSignal | undefined,
): Promise<StepRates | undefined> {
  const { precision } = setting
  const measured = await translatedAsync(
    () => addon().arithmeticPeak({ precision, rounds: PEAK_ROUNDS }).promise,
  )
  const peak = measured === null ? SLOW : Math.max(measured, how.threads * LEAST_PEAK)
  const settings = miniatures(setting, work, (SHARE_OF_PEAK * peak * STEP_SECONDS) / 2)
  if (settings === undefined) return undefined
  const models = settings.map(layOut)
  const bytes = models.reduce((sum, { memory }) => sum + memory.peakBytes, 0)
  if (bytes > SHARE_OF_MEMORY * process.availableMemory()) return undefined
  const trials = models.map((model, i) => trialOf(settings[i] as StepSetting, model))
  const folder = await mkdtemp(join(tmpdir(), 'lowrank-time-'))
  const times = await timed({ ...how, trials, folder }, signal).finally(() =>
    rm(folder, { recursive: true, force: true }),
  )
  const [small, deep, wide] = models.map(
    (model, i): Timed => ({ work: model.work, ...(times[i] as TrialTimes[number]) }),
  ) as [Timed, Timed, Timed]
  return ratesOf(small, deep, wide)
}

function trialOf({ options }: StepSetting, { graph, formats, description, plan, state }: LaidOut): Trial {
  const optimizer = optimizerOf(options.optimizer)
  return {
    ...{ graph, formats, plan, state, spec: description.spec, factors: description.factors },
    length: options.maxSeqLength,
    update: {
      ...nativeOptimizer(optimizer),
      groups: description.groups.map(() => ({ learningRate: 1e-5, weightDecay: 0 })),
      maxGradNorm: options.optimizerInBackward ? 0 : 1,
    },
  }
}

/** Times models in a separate process. */
async function timed(request: TrialRequest, signal: AbortSignal | undefined): Promise<TrialTimes> {
  const { execPath, execArgv, env } = nodeProgram()
  const child = spawn(execPath, [...execArgv, compiledScript('time', 'child.js')], {
    env: { ...env, LOWRANK_CHECK: '', LOWRANK_LOG: '' },
    stdio: ['pipe', 'pipe', 'ignore'],
    timeout: LIMIT_MS,
    signal,
  })
  const ended = new Promise<void>((done, failed) => {
    child.on('error', failed)
    child.on('close', (code) => (code === 0 ? done() : failed(new Error(`timing ended with ${code}`))))
  })
  child.stdin.on('error', () => undefined).end(JSON.stringify(request))
  const [answer] = await Promise.all([text(child.stdout), ended])
  return JSON.parse(answer) as TrialTimes
}
