/** `lowrank bench memory`: what was planned against what a process really held. */
import type { Command } from 'commander'
import { measuredBars, methodOf } from '../report/memory.js'
import { asInFiles } from '../train/config-schema.js'
import { InterruptedError, UsageError } from './errors.js'
import { examples } from './help.js'
import { Interruption } from './interrupt.js'
import { barData, type MemoryOptions, memoryFlags, memorySettings, memoryTable } from './memory.js'
import { Output } from './output.js'
import { shown } from './progress.js'
import type { Printed } from './schemas.js'

interface Options extends MemoryOptions {
  model: string
  json?: boolean
}

export function configure(command: Command): void {
  command.argument('<what>', 'memory')
  command.requiredOption('--model <path>', 'a model folder or a .gguf file')
  memoryFlags(command)
  examples(command, [
    'lowrank bench memory --model model.gguf',
    'lowrank bench memory --model model.gguf --methods lora,dora,vera,lokr --seq-len 2048 --json',
  ])
  command.action(async (what: string, options: Options) => {
    const output = new Output(options.json ?? false)
    if (what !== 'memory') throw new UsageError(`bench '${what}' does not exist; expected memory.`)
    const settings = memorySettings(options)
    const methods = options.methods.map((name) => methodOf(name, settings.rank))
    const interruption = new Interruption(output, 'Stopping.')
    const { signal } = interruption
    try {
      const bars = await shown(output, 'Measuring', (line) =>
        measuredBars(options.model, methods, settings, {
          signal,
          onMethod: (method, done, total) => line.update(`${done + 1} of ${total}: ${method}`),
        }),
      )
      const answer = { settings: asInFiles(settings), bars: bars.map(barData) } as Printed<'bench'>
      output.answer<'bench'>(answer, () =>
        [
          memoryTable(bars),
          '',
          'Planned: the peak of the plan. Measured: the peak of what is resident from the loaded model to the end of the',
          'second step, above what Node.js and the addon held before the model was loaded.',
        ].join('\n'),
      )
    } catch (error) {
      if (!signal.aborted) throw error
      throw new InterruptedError('stopped; nothing was measured.', { step: 0, checkpoint: null })
    } finally {
      interruption.dispose()
    }
  })
}
