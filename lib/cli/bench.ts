/** `lowrank bench`: compares planned memory with what a process holds, draws it, and measures the speed of training. */
import { existsSync } from 'node:fs'
import { type Command, InvalidArgumentError, Option } from 'commander'
import {
  METHOD_NAMES,
  type MemorySettings,
  measuredBars,
  memoryChart,
  methodOf,
  plannedBars,
  planOptions,
} from '../bench/memory.js'
import { measureSpeed, type SpeedStudy } from '../bench/speed.js'
import { SHAPES } from '../models/shapes.js'
import { addon } from '../native/addon.js'
import { translatedAsync } from '../native/errors.js'
import { planModel } from '../planning/plan.js'
import { asInFiles } from '../train/config/config-schema.js'
import { resolvePrecision } from '../weights/choice.js'
import { barData, memoryTable } from './bench-memory.js'
import { InterruptedError, UsageError } from './errors.js'
import { digits, table } from './format.js'
import { examples, integerFlag, names, onlyOwnFlags } from './help.js'
import { Interruption } from './interrupt.js'
import { columnsFor } from './live-lines.js'
import { Output } from './output.js'
import { checkOutputFile, writeOutputFile } from './output-file.js'
import { type StatusLine, shown } from './progress.js'
import type { Printed } from './schemas.js'
import { loadShown } from './subject.js'

interface Options {
  model: string
  methods: string[]
  rank: number
  batch: number
  seqLen: number
  gradientCheckpointing: boolean
  precision: MemorySettings['precision']
  shapes: string[]
  out?: string
  force?: boolean
  steps: number
  newTokens: number
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
    const { model, methods: names, shapes, out, force = false } = options
    if (out !== undefined) await checkPicture(out, force)
    const settings = memorySettings(options)
    const methods = names.map((name) => methodOf(name, settings.rank))
    // Plan first, which takes no time, so that an invalid shape is reported before anything is measured.
    const planned = await plannedBars(shapes, methods, settings)
    const measured = await shown(output, 'Measuring', (line) =>
      measuredBars(model, methods, settings, {
        signal,
        onMethod: (method, done, total) => line.update(`${done + 1} of ${total}: ${method}`, done / total),
      }),
    )
    const bars = [...measured, ...planned]
    if (out !== undefined) await writeOutputFile(out, memoryChart(bars, settings))
    return {
      data: {
        ...{ what: 'memory', settings: asInFiles(settings), bars: bars.map(barData) },
        ...(out === undefined ? {} : { out }),
      } as Printed<'bench'>,
      text: [
        memoryTable(bars, columnsFor(output.stdout)),
        '',
        'Planned: peak of the plan. Measured: peak of resident memory from the loaded model to the end of the second step, minus the memory of Node.js and the addon before. ' +
          'The other columns include Node.js: anonymous memory and file pages; the same by PSS, which divides shared pages among processes; and pages of the weight file in the page cache.',
        ...(out === undefined ? [] : ['', `The picture is ${out}.`]),
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
        const peak = await arithmeticPeak(precision)
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
}

const TRAINING = ['model', 'rank', 'batch', 'seqLen', 'precision', 'methods', 'gradientCheckpointing']

/** Names of the flags of each measurement. */
const FLAGS: Readonly<Record<string, readonly string[]>> = {
  memory: [...TRAINING, 'shapes', 'out', 'force'],
  speed: [...TRAINING, 'steps', 'newTokens'],
}

const callOf = (what: string) => `\`lowrank bench ${what} --model MODEL\``
const WHAT = Object.keys(MEASUREMENTS).join(' or ')

export function configure(command: Command): void {
  command.argument('[what]', WHAT)
  command.option('--model <path>', 'a model folder or a .gguf file')
  command.option(
    '--methods <names>',
    'strategies over 16-bit weights, full-in-backward, qlora, qlora-8bit, qlora-paged, qlora-int8-embedding, or qlora-nf4-embedding, separated by commas',
    methodNames,
    ['full', 'lora', 'qlora', 'qlora-8bit', 'qlora-paged'],
  )
  command.option('--rank <r>', 'rank of the adapters', integerFlag(1), 16)
  command.option('--batch <N>', 'sequences per batch', integerFlag(1), 1)
  command.option('--seq-len <N>', 'tokens per sequence', integerFlag(2), 512)
  command.option('--no-gradient-checkpointing', 'keep all activations')
  command.addOption(
    new Option('--precision <type>', 'precision of matrix operands')
      .choices(['auto', 'fp32', 'bf16'])
      .default('auto'),
  )
  command.option('--out <file>', 'memory: draw the comparison, as SVG')
  command.option('--force', 'memory: replace the picture')
  command.option(
    '--shapes <names>',
    'memory: more models to plan, separated by commas: well-known names, or paths of a config.json, a model folder, or a .gguf file',
    shapeNames,
    [],
  )
  command.option('--steps <N>', 'speed: timed training steps', integerFlag(1), 5)
  command.option('--new-tokens <N>', 'speed: tokens to generate', integerFlag(1), 64)
  examples(command, [
    'lowrank bench memory --model model.gguf',
    'lowrank bench memory --model model.gguf --methods lora,dora,vera,lokr --seq-len 2048 --json',
    'lowrank bench memory --model model.gguf --shapes Llama-2-7B,Llama-3.1-70B --out memory.svg',
    'lowrank bench speed --model model.gguf --methods qlora --batch 4',
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

function memorySettings(options: Options): MemorySettings {
  const { rank, batch, seqLen, gradientCheckpointing, precision } = options
  return { rank, perDeviceTrainBatchSize: batch, maxSeqLength: seqLen, gradientCheckpointing, precision }
}

/** Refuses a picture that cannot be written, before anything is measured. */
async function checkPicture(file: string, force: boolean): Promise<void> {
  if (!file.endsWith('.svg'))
    throw new UsageError(`--out is ${file}; expected a file name that ends in .svg.`, { path: file })
  await checkOutputFile(file, '--out', force)
}

/** Operations per second of multiply-adds alone; null if the level has no loop of them. */
function arithmeticPeak(precision: MemorySettings['precision']): Promise<number | null> {
  return translatedAsync(
    () => addon().arithmeticPeak({ precision: resolvePrecision(precision), rounds: 9 }).promise,
  )
}

function methodNames(text: string): string[] {
  const list = names(text)
  const unknown = list.find((name) => !METHOD_NAMES.includes(name))
  if (unknown === undefined) return list
  throw new InvalidArgumentError(`There is no '${unknown}'; expected some of ${METHOD_NAMES.join(', ')}.`)
}

function shapeNames(text: string): string[] {
  const list = [...new Set(names(text))]
  const unknown = list.find((name) => !SHAPES.has(name) && !existsSync(name))
  if (unknown === undefined) return list
  throw new InvalidArgumentError(
    `There is no '${unknown}'; expected the path of a config.json or a model folder, or some of ${[...SHAPES.keys()].join(', ')}.`,
  )
}
