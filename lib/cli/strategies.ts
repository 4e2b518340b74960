/** `lowrank strategies`: lists the training strategies and their sources. */
import type { Command } from 'commander'
import { listStrategies } from '../strategies/index.js'
import { fittedTable } from './format.js'
import { examples } from './help.js'
import { columnsFor } from './live-lines.js'
import { Output } from './output.js'

export function configure(command: Command): void {
  examples(command, ['lowrank strategies', 'lowrank strategies --json'])
  command.action((options: { json?: boolean }) => {
    const output = new Output(options.json ?? false)
    const entries = listStrategies()
    output.answer<'strategies'>(entries, () =>
      fittedTable(
        [
          ['NAME', 'PAPER', 'SAVED AS', 'RATE', 'BASES', 'TRAINS'],
          ...entries.map(({ name, paper, peft_type, bases, trainable, learning_rate }) => [
            name,
            paper,
            `PEFT ${peft_type}`,
            String(learning_rate),
            bases.join(', '),
            trainable,
          ]),
        ],
        columnsFor(output.stdout),
      ),
    )
  })
}
