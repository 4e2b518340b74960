/**
 * `lowrank merge`: writes a model with an adapter merged in, or a model with 4- or 8-bit weights, as a Hugging
 * Face folder.
 */
import { type Command, Option } from 'commander'
import { type MERGE_BASES, SAVE_DTYPES, type SaveOptions } from '../export/options.js'
import { bytesFlag, examples } from './help.js'
import { type OutOptions, outFlags, outSubject, reportWritten, SHARD_SIZE, writeShown } from './out.js'

interface Options extends OutOptions {
  dtype?: (typeof SAVE_DTYPES)[number]
  onto?: (typeof MERGE_BASES)[number]
  maxShardSize?: number
}

export function configure(command: Command): void {
  command.option(
    '--adapter <path>',
    'an adapter, a folder or file of PEFT or mlx-lm (default: the model alone)',
  )
  outFlags(command, 'output folder')
  command.addOption(
    new Option(
      '--dtype <type>',
      "type of the weights (default: f16 for F16 files and quantized GGUF, else bf16); nf4, fp4, and int8 in bitsandbytes' formats",
    ).choices(SAVE_DTYPES),
  )
  command.option('--max-shard-size <size>', SHARD_SIZE, bytesFlag)
  examples(command, [
    'lowrank merge --adapter out --output merged',
    'lowrank merge --adapter out --model models/SmolLM2-135M --onto original --output merged --dtype f16',
    'lowrank merge --model models/SmolLM2-135M --dtype nf4 --output smollm2-nf4',
  ])
  command.action(async (options: Options) => {
    await writeShown(options, await outSubject(options), async (model, { output, ...control }) => {
      const { dtype, maxShardSize } = options
      const given: SaveOptions = {
        ...control,
        ...(dtype === undefined ? {} : { dtype }),
        ...(maxShardSize === undefined ? {} : { maxShardBytes: maxShardSize }),
      }
      const written = await model.save(options.output, given)
      for (const remark of written.remarks) output.note(`note: ${remark}.`)
      reportWritten(written, output)
    })
  })
}
