/** `lowrank export`: writes a model, with or without an adapter, in formats that other programs read. */
import { basename, join } from 'node:path'
import { type Command, Option } from 'commander'
import { shellWord } from '../core/system.js'
import { EXPORT_DTYPES, EXPORT_FORMATS, type ExportOptions, misfitOf } from '../export/options.js'
import { vllmRank } from '../export/vllm.js'
import { readJsonObject } from '../io/input.js'
import { ADAPTER_CONFIG } from '../peft/adapter-config.js'
import { UsageError } from './errors.js'
import { bytesFlag, examples } from './help.js'
import {
  type OutOptions,
  type OutSubject,
  outFlags,
  outSubject,
  reportWritten,
  SHARD_SIZE,
  writeShown,
} from './out.js'

interface Options extends OutOptions {
  format: (typeof EXPORT_FORMATS)[number]
  dtype?: (typeof EXPORT_DTYPES)[number]
  maxShardSize?: number
  separateAdapter?: boolean
}

export function configure(command: Command): void {
  command.addOption(
    new Option('--format <format>', 'output format').choices(EXPORT_FORMATS).makeOptionMandatory(),
  )
  command.option(
    '--adapter <path>',
    'an adapter, a folder or file of PEFT or mlx-lm (default: the model alone)',
  )
  outFlags(command, 'output file; for safetensors, ollama, and vllm, output folder')
  command.addOption(
    new Option(
      '--dtype <type>',
      'type of the weights (default: f16 for gguf and ollama, f32 for gguf-lora and vllm, as in merge for safetensors)',
    ).choices(EXPORT_DTYPES),
  )
  command.option('--separate-adapter', 'with ollama: write base and adapter as two files')
  command.option('--max-shard-size <size>', `with safetensors: ${SHARD_SIZE}`, bytesFlag)
  examples(command, [
    'lowrank export --format gguf --adapter out --output tuned.gguf --dtype q8_0',
    'lowrank export --format gguf-lora --adapter out --output adapter.gguf',
    'lowrank export --format ollama --adapter out --output tuned',
    'lowrank export --format vllm --adapter out --output served',
  ])
  command.action(async (options: Options) => {
    refuseMisfits(options)
    const subject = await outSubject(options)
    await writeShown(options, subject, async (model, { output, ...control }) => {
      const { format, dtype, maxShardSize, separateAdapter } = options
      const given: ExportOptions = {
        ...control,
        format,
        ...(dtype === undefined ? {} : { dtype }),
        ...(maxShardSize === undefined ? {} : { maxShardBytes: maxShardSize }),
        ...(separateAdapter === undefined ? {} : { separateAdapter }),
      }
      const written = await model.export(options.output, given)
      const { remarks } = written
      for (const remark of remarks) output.note(`note: ${remark}.`)
      const use =
        format === 'vllm' ? await serveCommand(subject, written.output) : useOf(format, written.output)
      reportWritten(written, output, use, { format, remarks })
    })
  })
}

/** A command that uses the exported files, for formats of a specific program. */
function useOf(format: ExportOptions['format'], path: string): string | undefined {
  if (format === 'gguf') return `llama-cli -m ${shellWord(path)}`
  if (format !== 'ollama') return undefined
  const name = shellWord(basename(path).toLowerCase())
  // Two lines, since Windows PowerShell does not support &&.
  return `ollama create ${name} -f ${shellWord(join(path, 'Modelfile'))}\n  ollama run ${name}`
}

/** Starts vLLM with a written adapter. */
async function serveCommand({ model }: OutSubject, path: string): Promise<string> {
  const { r } = await readJsonObject(join(path, ADAPTER_CONFIG), 16 << 20)
  const place = `${basename(path)}=${path}`
  return `vllm serve ${shellWord(model)} --enable-lora --max-lora-rank ${vllmRank(r as number)} --lora-modules ${shellWord(place)}`
}

/** Refuses contradictory options, named as flags, before a model is loaded. */
function refuseMisfits({ format, adapter, dtype, maxShardSize, maxLoss, separateAdapter }: Options): void {
  if (adapter === undefined && (format === 'gguf-lora' || format === 'vllm' || separateAdapter))
    throw new UsageError(
      `${separateAdapter ? '--separate-adapter' : `--format ${format}`} writes an adapter, but none was given; pass --adapter.`,
    )
  const misfit = misfitOf({
    format,
    ...(dtype === undefined ? {} : { dtype }),
    ...(maxShardSize === undefined ? {} : { maxShardBytes: maxShardSize }),
    ...(maxLoss === undefined ? {} : { maxLoss }),
    ...(separateAdapter === undefined ? {} : { separateAdapter }),
  })
  if (misfit === undefined) return
  const { option, formats } = misfit
  const flags = {
    dtype: `--dtype ${dtype}`,
    maxShardBytes: '--max-shard-size',
    maxLoss: '--max-loss',
    separateAdapter: '--separate-adapter',
  }
  throw new UsageError(`${flags[option]} is for the format ${formats}, and --format is ${format}.`)
}
