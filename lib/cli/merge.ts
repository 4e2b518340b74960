/** `lowrank merge`: a model with an adapter merged in, as a Hugging Face folder. */
import { type Command, Option } from 'commander'
import { type MERGE_BASES, MODEL_DTYPES, type SaveOptions } from '../export/options.js'
import { examples, integerFlag } from './help.js'
import { adapterSubject, type OutOptions, outFlags, reportWritten, writeShown } from './out.js'

interface Options extends OutOptions {
  adapter: string
  dtype?: (typeof MODEL_DTYPES)[number]
  onto?: (typeof MERGE_BASES)[number]
  maxShardSize?: number
}

export function configure(command: Command): void {
  command.requiredOption('--adapter <path>', 'a PEFT adapter folder')
  outFlags(command, 'the folder to write')
  command.addOption(
    new Option(
      '--dtype <type>',
      'of the weights (default: f16 for F16 files and quantised GGUF, else bf16)',
    ).choices(MODEL_DTYPES),
  )
  command.option('--max-shard-size <bytes>', 'largest size of one file of weights', integerFlag(1))
  examples(command, [
    'lowrank merge --adapter out --output merged',
    'lowrank merge --adapter out --model models/SmolLM2-135M --onto original --output merged --dtype f16',
  ])
  command.action(async (options: Options) => {
    await writeShown(options, await adapterSubject(options), async (model, { output, ...control }) => {
      const { dtype, maxShardSize } = options
      const given: SaveOptions = {
        ...control,
        ...(dtype === undefined ? {} : { dtype }),
        ...(maxShardSize === undefined ? {} : { maxShardBytes: maxShardSize }),
      }
      reportWritten(await model.save(options.output, given), output)
    })
  })
}
