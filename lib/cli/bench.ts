/** `lowrank bench`: what was planned against what a process really holds, and how fast it is. */
import type { Command } from 'commander'
import { measuredBars, methodOf } from '../report/memory.js'
import { measureSpeed, type SpeedStudy } from '../report/speed.js'
import { asInFiles } from '../train/config-schema.js'
import { InterruptedError, UsageError } from './errors.js'
import { digits, table } from './format.js'
import { examples, integerFlag } from './help.js'
import { Interruption } from './interrupt.js'
import { barData, type MemoryOptions, memoryFlags, memorySettings, memoryTable } from './memory.js'
import { Output } from './output.js'
import { shown } from './progress.js'
import type { Printed } from './schemas.js'
import { loadShown } from './subject.js'

interface Options extends MemoryOptions {
  model: string
  steps: number
  newTokens: number
  json?: boolean
}

/** What a measurement prints: for programs, and for people. */
interface Measured {
  data: Printed<'bench'>
  text: string
}

type Measurement = (options: Options, signal: AbortSignal, output: Output) => Promise<Measured>

const MEASUREMENTS: Readonly<Record<string, Measurement>> = {
  memory: async (options, signal, output) => {
    const settings = memorySettings(options)
    const methods = options.methods.map((name) => methodOf(name, settings.rank))
    const bars = await shown(output, 'Measuring', (line) =>
      measuredBars(options.model, methods, settings, {
        signal,
        onMethod: (method, done, total) => line.update(`${done + 1} of ${total}: ${method}`),
      }),
    )
    return {
      data: { what: 'memory', settings: asInFiles(settings), bars: bars.map(barData) } as Printed<'bench'>,
      text: [
        memoryTable(bars),
        '',
        'Planned: the peak of the plan. Measured: the peak of what is resident from the loaded model to the end of the',
        'second step, above what Node.js and the addon held before the model was loaded.',
      ].join('\n'),
    }
  },
  speed: async (options, signal, output) => {
    const { steps, newTokens, precision } = options
    const { rank, ...shape } = memorySettings(options)
    const studies: [method: string, study: SpeedStudy][] = []
    for (const name of options.methods) {
      const { strategy, quantization, optimizer, pagedWeights = false } = methodOf(name, rank)
      const model = await loadShown(options.model, { quantization, precision, pagedWeights, signal }, output)
      try {
        const settings = { ...shape, optimizer: optimizer ?? 'adamw', steps, newTokens }
        const study = await shown(output, 'Measuring', (line) =>
          measureSpeed(model, strategy, settings, {
            signal,
            onPhase: (phase) => line.update(`${name}, ${phase}`),
          }),
        )
        studies.push([name, study])
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
          ['method', 'training', 'evaluation', 'generation', 'JavaScript', 'longest block'],
          ...studies.map(([method, study]) => [
            method,
            ...[study.trainingTokensPerSecond, study.evaluationTokensPerSecond].map(digits),
            digits(study.generationTokensPerSecond),
            `${(100 * study.javascriptShare).toFixed(1)} %`,
            `${study.longestBlockMs.toFixed(1)} ms`,
          ]),
        ]),
        '',
        'Tokens per second. JavaScript: the share of the training steps in which the event loop was busy; longest block:',
        'for how long at most nothing else could run on it.',
      ].join('\n'),
    }
  },
}

export function configure(command: Command): void {
  command.argument('<what>', Object.keys(MEASUREMENTS).join(' or '))
  command.requiredOption('--model <path>', 'a model folder or a .gguf file')
  memoryFlags(command)
  command.option('--steps <N>', 'of speed: training steps that are timed', integerFlag(1), 5)
  command.option('--new-tokens <N>', 'of speed: tokens that are generated', integerFlag(1), 64)
  examples(command, [
    'lowrank bench memory --model model.gguf',
    'lowrank bench memory --model model.gguf --methods lora,dora,vera,lokr --seq-len 2048 --json',
    'lowrank bench speed --model model.gguf --methods qlora --batch 4',
  ])
  command.action(async (what: string, options: Options) => {
    const output = new Output(options.json ?? false)
    const measurement = MEASUREMENTS[what]
    if (measurement === undefined)
      throw new UsageError(
        `bench '${what}' does not exist; expected ${Object.keys(MEASUREMENTS).join(' or ')}.`,
      )
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
