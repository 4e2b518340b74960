/** What `merge` and `export` share: how the model is found and loaded, what is shown meanwhile, and the answer. */
import { existsSync } from 'node:fs'
import { isAbsolute, join } from 'node:path'
import { type Command, Option } from 'commander'
import { MERGE_BASES, type SaveOptions, type Written } from '../export/options.js'
import { refuseTaken } from '../export/save.js'
import { formatBytes } from '../memory.js'
import type { LoadOptions, Model } from '../model.js'
import { readOrigin } from '../peft/adapter-folder.js'
import { quantizationFrom } from '../strategies/quantization.js'
import { UsageError } from './errors.js'
import { facts, formatCount } from './format.js'
import { integerFlag } from './help.js'
import { Interruption } from './interrupt.js'
import { Output } from './output.js'
import { StatusLine } from './progress.js'
import type { Printed } from './schemas.js'
import { loadShown } from './subject.js'

export interface OutOptions {
  adapter?: string
  /** Ranks in use. */
  rank?: number
  model?: string
  output: string
  onto?: (typeof MERGE_BASES)[number]
  dataset?: string
  check: boolean
  force?: boolean
  threads?: number
  json?: boolean
}

export function outFlags(command: Command, what: string): void {
  command.option('--rank <N>', 'use the first N ranks of an adapter trained with dylora', integerFlag(1))
  command.option('--model <path>', 'a model folder or .gguf file (default: what the adapter was trained on)')
  command.requiredOption('--output <path>', what)
  command.addOption(
    new Option(
      '--onto <weights>',
      'what the adapter is added to: the dequantised weights that it was trained on, or those of the files',
    )
      .choices(MERGE_BASES)
      .default('trained'),
  )
  command.option('--dataset <path>', 'text for the check (default: a few lines of our own)')
  command.option('--no-check', 'do not load what was written to compare it')
  command.option('--force', 'write into a place that exists')
  command.option('--threads <N>', 'threads of the engine', integerFlag(1))
}

/** The model to load and the adapter on it. */
export interface OutSubject {
  model: string
  adapter: string | undefined
  quantization: LoadOptions['quantization']
  /** For files that are not quantised. */
  defaultQuantization?: LoadOptions['defaultQuantization']
}

/** The model that an adapter belongs to, from its folder where no flag says it. */
export async function adapterSubject({ adapter, model, rank }: OutOptions): Promise<OutSubject> {
  if (adapter === undefined) {
    if (rank !== undefined) throw new UsageError('--rank is of an adapter; name --adapter.')
    if (model === undefined) throw new UsageError('name --adapter, or --model for the model alone.')
    return { model, adapter, quantization: 'none' }
  }
  const origin = await readOrigin(adapter)
  const found = model ?? placeOf(origin.baseModel, adapter)
  if (found === null)
    throw new UsageError(`${adapter} does not say what it was trained on; name --model.`, { adapter })
  const quantization = origin.quantization === null ? undefined : quantizationFrom(origin.quantization)
  return { model: found, adapter, quantization: quantization ?? 'none' }
}

/** A relative path is relative to where the run was started, and where that is not here, perhaps to the adapter. */
function placeOf(base: string | null, adapter: string): string | null {
  if (base === null || isAbsolute(base) || existsSync(base)) return base
  const beside = join(adapter, base)
  return existsSync(beside) ? beside : base
}

/** Loads the model with its adapter, writes and frees both. */
export async function writeShown(
  options: OutOptions,
  subject: OutSubject,
  write: (model: Model, control: Omit<SaveOptions, 'dtype'> & { output: Output }) => Promise<void>,
): Promise<void> {
  const output = new Output(options.json ?? false)
  refuseTaken(options.output, options.force ?? false)
  const interruption = new Interruption(output, 'Stopping; nothing is left half written.')
  const { signal } = interruption
  try {
    const { adapter, quantization, defaultQuantization } = subject
    output.note(`Loading ${subject.model}${adapter === undefined ? '' : ` with ${adapter}`}`)
    const given: LoadOptions = {
      precision: 'fp32',
      signal,
      ...(quantization === undefined ? {} : { quantization }),
      ...(defaultQuantization === undefined ? {} : { defaultQuantization }),
      ...(options.threads === undefined ? {} : { threads: options.threads }),
    }
    const model = await loadShown(subject.model, given, output)
    const line = new StatusLine(output, 'Writing')
    try {
      if (adapter !== undefined) (await model.loadAdapter(adapter)).rank = options.rank ?? null
      output.note(`Writing ${options.output}`)
      await write(model, {
        output,
        signal,
        force: options.force ?? false,
        check: options.check,
        ...(options.onto === undefined ? {} : { onto: options.onto }),
        ...(options.dataset === undefined ? {} : { checkDataset: options.dataset }),
        onProgress: ({ phase, doneBytes, totalBytes }) =>
          line.update(
            `${Math.floor((100 * doneBytes) / totalBytes)} % of ${formatBytes(totalBytes)}${phase === 'check' ? ' read back' : ''}`,
          ),
      })
    } finally {
      line.clear()
      await model.dispose()
    }
  } finally {
    interruption.dispose()
  }
}

/**
 * The answer of a verb that wrote a model.
 * @param more what `export` says beside what `merge` says
 */
export function reportWritten(
  { output: path, files, check }: Written,
  output: Output,
  more: Partial<Printed<'export'>> = {},
): void {
  const data = {
    output: path,
    files,
    check: check && {
      kl: check.kl,
      top1_agreement: check.top1Agreement,
      max_abs_logit_error: check.maxAbsLogitError,
      positions: check.positions,
    },
    ...more,
  }
  output.answer<'merge' | 'export'>(data, () => {
    const written: [string, string][] = [
      ['written', path],
      ['files', files.join(', ')],
    ]
    if (check === null) return facts(written)
    return facts([
      ...written,
      ['KL divergence', `${check.kl.toExponential(2)} nats a token`],
      [
        'top-1 agreement',
        `${(100 * check.top1Agreement).toFixed(1)} % of ${formatCount(check.positions)} tokens`,
      ],
      ['largest logit error', check.maxAbsLogitError.toPrecision(3)],
    ])
  })
}
