/**
 * `lowrank bench`: compares planned memory with what a process holds, and measures the speed of training and
 * kernels.
 */
import type { Command } from 'commander'
import { formatBytes } from '../core/bytes.js'
import {
  arithmeticPeak,
  describeKernel,
  type KernelRate,
  kernelsOf,
  measureKernels,
} from '../laboratory/kernels.js'
import { measuredBars, methodOf, planOptions } from '../laboratory/memory.js'
import { measureSpeed, type SpeedStudy } from '../laboratory/speed.js'
import { addon } from '../native/addon.js'
import { translated } from '../native/errors.js'
import { openShape, planModel } from '../planning/plan.js'
import { asInFiles } from '../train/config-schema.js'
import { resolvePrecision } from '../weights/choice.js'
import { STORAGE_FORMATS } from '../weights/weights.js'
import { InterruptedError, UsageError } from './errors.js'
import { digits, table } from './format.js'
import { examples, integerFlag, onlyOwnFlags } from './help.js'
import { Interruption } from './interrupt.js'
import { columnsFor } from './live-lines.js'
import { barData, type MemoryOptions, memoryFlags, memorySettings, memoryTable } from './memory.js'
import { Output } from './output.js'
import { type StatusLine, shown } from './progress.js'
import type { Printed } from './schemas.js'
import { loadShown } from './subject.js'

interface Options extends MemoryOptions {
  model: string
  steps: number
  newTokens: number
  format: string
  rounds: number
  level?: string
  threads?: number
  json?: boolean
}

/** Output of a measurement, as data and as text. */
interface Measured {
  data: Printed<'bench'>
  text: string
}

/** `46 %`; empty if the level has no known peak. */
const percent = (share: number | null) => (share === null ? '' : `${(100 * share).toFixed(0)} %`)

type Measurement = (options: Options, signal: AbortSignal, output: Output) => Promise<Measured>

const MEASUREMENTS: Readonly<Record<string, Measurement>> = {
  memory: async (options, signal, output) => {
    const settings = memorySettings(options)
    const methods = options.methods.map((name) => methodOf(name, settings.rank))
    const bars = await shown(output, 'Measuring', (line) =>
      measuredBars(options.model, methods, settings, {
        signal,
        onMethod: (method, done, total) => line.update(`${done + 1} of ${total}: ${method}`, done / total),
      }),
    )
    return {
      data: { what: 'memory', settings: asInFiles(settings), bars: bars.map(barData) } as Printed<'bench'>,
      text: [
        memoryTable(bars, columnsFor(output.stdout)),
        '',
        'Planned: peak of the plan. Measured: peak of resident memory from the loaded model to the end of the second step, minus the memory of Node.js and the addon before. ' +
          'The other columns include Node.js: anonymous memory and file pages; the same by PSS, which divides shared pages among processes; and pages of the weight file in the page cache.',
      ].join('\n'),
    }
  },
  speed: async (options, signal, output) => {
    const { steps, newTokens, precision } = options
    const { rank, ...shape } = memorySettings(options)
    const studies: [method: string, study: SpeedStudy & { shareOfPeak: number | null }][] = []
    const begin = performance.now()
    for (const [index, name] of options.methods.entries()) {
      const method = methodOf(name, rank)
      const { strategy, quantization, embeddingQuantization, pagedWeights = false } = method
      const { optimizerInBackward = false } = method
      const optimizer = method.optimizer ?? 'adamw'
      const { timeline } = await planModel(options.model, planOptions(method, { rank, ...shape }))
      const held = { quantization, ...(embeddingQuantization && { embeddingQuantization }), pagedWeights }
      const model = await loadShown(options.model, { ...held, precision, signal }, output)
      try {
        const settings = { ...shape, optimizer, optimizerInBackward, steps, newTokens }
        const measured = (line: StatusLine) =>
          measureSpeed(model, strategy, settings, {
            signal,
            onProgress: (phase, share) =>
              line.update(`${name}, ${phase}`, (index + share) / options.methods.length),
          })
        const study = await shown(output, 'Measuring', measured, begin)
        const peak = await arithmeticPeak(resolvePrecision(precision))
        const operations = 2 * timeline.reduce((sum, step) => sum + step.multiplyAdds, 0)
        const perToken = operations / (shape.perDeviceTrainBatchSize * shape.maxSeqLength)
        const shareOfPeak = peak && (perToken * study.trainingTokensPerSecond) / peak
        studies.push([name, { ...study, shareOfPeak }])
      } finally {
        await model.dispose()
      }
    }
    return {
      data: {
        what: 'speed',
        settings: asInFiles({ rank, ...shape, steps, newTokens }),
        methods: studies.map(([method, study]) => ({ method, ...(asInFiles(study) as object) })),
      } as Printed<'bench'>,
      text: [
        table([
          ['method', 'training', 'of the peak', 'evaluation', 'generation', 'JavaScript', 'longest block'],
          ...studies.map(([method, study]) => [
            method,
            digits(study.trainingTokensPerSecond),
            percent(study.shareOfPeak),
            ...[study.evaluationTokensPerSecond, study.generationTokensPerSecond].map(digits),
            `${(100 * study.javascriptShare).toFixed(1)} %`,
            `${study.longestBlockMs.toFixed(1)} ms`,
          ]),
        ]),
        '',
        'Tokens per second. Of the peak: rate of the products with base weights in a training step, relative to a loop of multiply-adds.',
        'JavaScript: share of the training steps during which the event loop was busy. Longest block: longest time that',
        'it was blocked, from attaching the adapter to the end of a run that evaluates, saves, and resumes.',
      ].join('\n'),
    }
  },
  kernels: async (options, signal, output) => {
    const { rank, perDeviceTrainBatchSize, maxSeqLength } = memorySettings(options)
    const format = STORAGE_FORMATS.find((name) => name === options.format)
    if (format === undefined)
      throw new UsageError(`--format is '${options.format}', expected one of ${STORAGE_FORMATS.join(', ')}.`)
    const { level: isa, threads, rounds } = options
    translated(() => addon().configure({ ...(isa ? { isa } : {}), ...(threads ? { threads } : {}) }))
    const precision = resolvePrecision(options.precision)
    const shape = await openShape(options.model, { signal })
    const settings = { rank, perDeviceTrainBatchSize, maxSeqLength, format, precision }
    const rates = await shown(output, 'Measuring', (line) =>
      measureKernels(
        kernelsOf(shape, settings),
        { precision, rounds },
        {
          signal,
          onKernel: (what, done, total) => line.update(`${done + 1} of ${total}: ${what}`, done / total),
        },
      ),
    )
    const { isa: level, threads: pool } = addon().cpu()
    const operands = precision === 'f32' ? 'fp32' : 'bf16'
    return {
      data: {
        what: 'kernels',
        settings: {
          ...(asInFiles({ rank, perDeviceTrainBatchSize, maxSeqLength, format, rounds }) as object),
          precision: operands,
          ...{ level, threads: pool },
        },
        kernels: rates.map(({ subject, ...rate }) => ({
          kernel: subject.kind,
          ...(asInFiles(rate) as object),
          shape: asInFiles(shapeOf(subject)),
        })),
      } as Printed<'bench'>,
      text: [
        table(
          [
            ['kernel', 'times', '', 'GFLOP/s', 'of the peak', 'ms'],
            ...rates.map(({ subject, count, name, operationsPerSecond, shareOfPeak, seconds }) => [
              describeKernel(subject),
              String(count),
              name.replace('_', ' '),
              digits(operationsPerSecond / 1e9),
              percent(shareOfPeak),
              digits(1e3 * seconds),
            ]),
          ],
          [1, 3, 4, 5],
        ),
        '',
        `${perDeviceTrainBatchSize * maxSeqLength} tokens, weights as ${format}, ${operands}, level ${level}, ${pool} ${pool === 1 ? 'thread' : 'threads'}; best of ${rounds} rounds.`,
        'Of the peak: relative to a loop of multiply-adds between the rounds. Times: calls of the kernel per step.',
        ...rates.flatMap(({ extraBytes }) =>
          extraBytes === undefined ? [] : [`Head and loss allocated ${formatBytes(extraBytes)}.`],
        ),
      ].join('\n'),
    }
  },
}

function shapeOf({ kind: _, ...shape }: KernelRate['subject']) {
  return shape
}

const RUN = ['model', 'rank', 'batch', 'seqLen', 'precision']
const TRAINING = [...RUN, 'methods', 'gradientCheckpointing']

/** Names of the flags of each measurement. */
const FLAGS: Readonly<Record<string, readonly string[]>> = {
  memory: TRAINING,
  speed: [...TRAINING, 'steps', 'newTokens'],
  kernels: [...RUN, 'format', 'rounds', 'level', 'threads'],
}

const callOf = (what: string) => `\`lowrank bench ${what} --model MODEL\``
const WHAT = [Object.keys(MEASUREMENTS).slice(0, -1).join(', '), Object.keys(MEASUREMENTS).at(-1)].join(
  ' or ',
)

export function configure(command: Command): void {
  command.argument('[what]', WHAT)
  command.option('--model <path>', 'a model folder or a .gguf file; for kernels also a lone config.json')
  memoryFlags(command, '', 'except kernels: ')
  command.option('--steps <N>', 'speed: timed training steps', integerFlag(1), 5)
  command.option('--new-tokens <N>', 'speed: tokens to generate', integerFlag(1), 64)
  command.option('--format <name>', 'kernels: format of the weights', 'nf4_double')
  command.option('--rounds <N>', 'kernels: number of rounds; the best one counts', integerFlag(1), 9)
  command.option('--level <name>', 'kernels: instruction-set level (default: the best, or LOWRANK_ISA)')
  command.option('--threads <N>', 'kernels: number of threads', integerFlag(1))
  examples(command, [
    'lowrank bench memory --model model.gguf',
    'lowrank bench memory --model model.gguf --methods lora,dora,vera,lokr --seq-len 2048 --json',
    'lowrank bench speed --model model.gguf --methods qlora --batch 4',
    'lowrank bench kernels --model Llama-3.2-1B/config.json --batch 4 --precision fp32 --level avx2',
  ])
  command.action(async (what: string | undefined, options: Options) => {
    const output = new Output(options.json ?? false)
    if (what === undefined)
      throw new UsageError(`name what to measure, ${WHAT}, and a model, as in ${callOf('memory')}.`)
    const measurement = MEASUREMENTS[what]
    if (measurement === undefined) throw new UsageError(`bench '${what}' does not exist; expected ${WHAT}.`)
    if (options.model === undefined) throw new UsageError(`name a model, as in ${callOf(what)}.`)
    onlyOwnFlags(command, `lowrank bench ${what}`, FLAGS[what] as readonly string[])
    const interruption = new Interruption(output, 'Stopping.')
    const { signal } = interruption
    try {
      const { data, text } = await measurement(options, signal, output)
      output.answer<'bench'>(data, () => text)
    } catch (error) {
      if (!signal.aborted) throw error
      throw new InterruptedError('stopped; nothing was measured.', { step: 0, checkpoint: null })
    } finally {
      interruption.dispose()
    }
  })
}
