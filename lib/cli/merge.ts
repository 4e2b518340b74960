/** `lowrank merge`: a model with an adapter merged in, or one in NF4 as it is held, as a Hugging Face folder. */
import { type Command, Option } from 'commander'
import { type MERGE_BASES, SAVE_DTYPES, type SaveOptions } from '../export/options.js'
import { UsageError } from './errors.js'
import { examples, integerFlag } from './help.js'
import {
  adapterSubject,
  type OutOptions,
  type OutSubject,
  outFlags,
  reportWritten,
  writeShown,
} from './out.js'

interface Options extends OutOptions {
  dtype?: (typeof SAVE_DTYPES)[number]
  onto?: (typeof MERGE_BASES)[number]
  maxShardSize?: number
}

export function configure(command: Command): void {
  command.option('--adapter <path>', 'a PEFT adapter folder (default: the model alone)')
  outFlags(command, 'the folder to write')
  command.addOption(
    new Option(
      '--dtype <type>',
      'of the weights (default: f16 for F16 files and quantised GGUF, else bf16); nf4 without an adapter',
    ).choices(SAVE_DTYPES),
  )
  command.option('--max-shard-size <bytes>', 'largest size of one file of weights', integerFlag(1))
  examples(command, [
    'lowrank merge --adapter out --output merged',
    'lowrank merge --adapter out --model models/SmolLM2-135M --onto original --output merged --dtype f16',
    'lowrank merge --model models/SmolLM2-135M --dtype nf4 --output smollm2-nf4',
  ])
  command.action(async (options: Options) => {
    if (options.dtype === 'nf4' && options.adapter !== undefined)
      throw new UsageError(
        '--dtype nf4 is for a model without an adapter: quantising the sum again would undo a part of the training. Leave --adapter out (it stays a folder of its own), or choose another --dtype.',
      )
    await writeShown(options, await subjectOf(options), async (model, { output, ...control }) => {
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

/** A model that is written in NF4 is quantised on the way in, unless its files are already. */
async function subjectOf(options: Options): Promise<OutSubject> {
  const subject = await adapterSubject(options)
  if (options.adapter !== undefined || options.dtype !== 'nf4') return subject
  return { ...subject, quantization: undefined, defaultQuantization: 'nf4' }
}
