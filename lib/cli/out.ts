/** Code shared by `merge` and `export`: finds and loads the model, shows progress, and reports the result. */
import { existsSync } from 'node:fs'
import { isAbsolute, join } from 'node:path'
import { type Command, Option } from 'commander'
import { formatBytes } from '../core/bytes.js'
import { UnsupportedError } from '../core/errors.js'
import {
  type EXPORT_DTYPES,
  type EXPORT_FORMATS,
  isQuantizedDtype,
  MAX_LOSS,
  MERGE_BASES,
  type SaveOptions,
  type Survival,
  type Written,
} from '../export/options.js'
import { refuseTaken } from '../export/save.js'
import type { LoadOptions } from '../model/load.js'
import type { Model } from '../model/model.js'
import { readAdapterFolder } from '../peft/adapter-folder.js'
import { recordedQuantization } from '../peft/sidecar.js'
import { UsageError } from './errors.js'
import { facts, formatCount } from './format.js'
import { integerFlag, numberFlag } from './help.js'
import { Interruption } from './interrupt.js'
import { Output } from './output.js'
import { StatusLine } from './progress.js'
import type { Printed } from './schemas.js'
import { loadShown } from './subject.js'

/** Description of `--max-shard-size`. */
export const SHARD_SIZE = 'largest size of one weight file, such as 2GB or 500MB'

/** Suffixes of progress lines. */
const DONE = { merge: ' merged', write: '', check: ' read back' }

export interface OutOptions {
  adapter?: string
  /** Number of ranks to use in the adapter. */
  rank?: number
  model?: string
  output: string
  onto?: (typeof MERGE_BASES)[number]
  dtype?: (typeof EXPORT_DTYPES)[number]
  /** Of `export`. */
  format?: (typeof EXPORT_FORMATS)[number]
  dataset?: string
  check: boolean
  maxLoss?: number
  force?: boolean
  threads?: number
  json?: boolean
}

export function outFlags(command: Command, what: string): void {
  command.option('--rank <N>', 'use the first N ranks of an adapter trained with dylora', integerFlag(1))
  command.option(
    '--model <path>',
    'a model folder or .gguf file (default: the one the adapter was trained on)',
  )
  command.requiredOption('--output <path>', what)
  command.addOption(
    new Option(
      '--onto <weights>',
      "weights to add the adapter to: the dequantized ones it was trained on, or those of the model's files",
    )
      .choices(MERGE_BASES)
      .default('trained'),
  )
  command.option('--dataset <path>', 'text for the check (default: a few bundled lines)')
  command.option('--no-check', 'skip loading and comparing the result')
  command.option(
    '--max-loss <share>',
    `with nf4, fp4, and int8: largest share of the adapter that may be lost to rounding (default: ${MAX_LOSS}; 1 allows any)`,
    numberFlag(0, 1),
  )
  command.option('--force', 'replace existing files')
  command.option('--threads <N>', 'number of threads', integerFlag(1))
}

/** The model to load, and its adapter. */
export interface OutSubject {
  model: string
  adapter: string | undefined
  quantization: LoadOptions['quantization']
  embeddingQuantization?: LoadOptions['embeddingQuantization']
  /** Used if the model's files are not quantized. */
  defaultQuantization?: LoadOptions['defaultQuantization']
}

/**
 * The model that an adapter belongs to, from the adapter's folder unless a flag names it. For a quantized
 * output, the model is quantized when loaded, unless its files already are.
 */
export async function outSubject(options: OutOptions): Promise<OutSubject> {
  const subject = await adapterSubject(options)
  const { adapter, dtype, onto } = options
  if (!isQuantizedDtype(dtype)) return subject
  if (adapter === undefined || onto === 'original')
    return { model: subject.model, adapter, quantization: undefined, defaultQuantization: dtype }
  return subject
}

async function adapterSubject({ adapter, model, rank }: OutOptions): Promise<OutSubject> {
  if (adapter === undefined) {
    if (rank !== undefined) throw new UsageError('--rank needs an adapter; pass --adapter.')
    if (model === undefined) throw new UsageError('pass --adapter, or --model for the model alone.')
    return { model, adapter, quantization: 'none' }
  }
  const { labels, config } = await readAdapterFolder(adapter)
  if (labels !== null)
    throw new UnsupportedError(
      `${adapter} is an adapter of a classifier: its head scores ${labels.join(', ')} and writes no text, so it is neither merged nor exported. PEFT reads the folder as it is, and lowrank eval measures it.`,
      { adapter, labels },
    )
  const found = model ?? placeOf(config.baseModel, adapter)
  if (found === null)
    throw new UsageError(`${adapter} does not name the model it was trained on; pass --model.`, { adapter })
  return { model: found, adapter, quantization: 'none', ...(await recordedQuantization(adapter)) }
}

/**
 * A relative path is relative to where the run was started; if it does not exist from here, tries the adapter's
 * folder.
 */
function placeOf(base: string | null, adapter: string): string | null {
  if (base === null || isAbsolute(base) || existsSync(base)) return base
  const beside = join(adapter, base)
  return existsSync(beside) ? beside : base
}

/** Loads the model with its adapter, writes the output, and frees both. */
export async function writeShown(
  options: OutOptions,
  subject: OutSubject,
  write: (model: Model, control: Omit<SaveOptions, 'dtype'> & { output: Output }) => Promise<void>,
): Promise<void> {
  const output = new Output(options.json ?? false)
  await refuseTaken(options.output, options.force ?? false, options.format)
  const interruption = new Interruption(output, 'Stopping; no partial file is left.')
  const { signal } = interruption
  try {
    const { adapter, quantization, embeddingQuantization, defaultQuantization } = subject
    output.note(`Loading ${subject.model}${adapter === undefined ? '' : ` with ${adapter}`}`)
    const given: LoadOptions = {
      precision: 'fp32',
      signal,
      ...(quantization === undefined ? {} : { quantization }),
      ...(embeddingQuantization === undefined ? {} : { embeddingQuantization }),
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
        ...(options.maxLoss === undefined ? {} : { maxLoss: options.maxLoss }),
        ...(options.dataset === undefined ? {} : { checkDataset: options.dataset }),
        onProgress: ({ phase, doneBytes, totalBytes }) =>
          line.update(
            `${Math.floor((100 * doneBytes) / totalBytes)} % of ${formatBytes(totalBytes)}${DONE[phase]}`,
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
 * Reports what was written.
 * @param use a command that uses the written files
 * @param more fields that only `export` prints
 */
export function reportWritten(
  { output: path, files, check, survival }: Written,
  output: Output,
  use?: string,
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
    ...(survival === null ? {} : { survival }),
    ...more,
  }
  output.answer<'merge' | 'export'>(data, () => {
    const written: [string, string][] = [
      ['written', path],
      ['files', files.join(', ')],
    ]
    if (survival !== null) written.push(...survivalFacts(survival))
    const next = use === undefined ? '' : `\n\nTry it:\n  ${use}`
    if (check === null) return `${facts(written)}${next}`
    const checked = facts([
      ...written,
      ['KL divergence', `${check.kl.toExponential(2)} nats per token`],
      [
        'top-1 agreement',
        `${(100 * check.top1Agreement).toFixed(1)} % of ${formatCount(check.positions)} tokens`,
      ],
      ['largest logit error', check.maxAbsLogitError.toPrecision(3)],
    ])
    return `${checked}${next}`
  })
}

/** How much of the adapter survives merging into quantized weights. */
function survivalFacts({ kept, error, tensors }: Survival): [string, string][] {
  const percent = (share: number) => `${(100 * share).toFixed(1)} %`
  const least = tensors.reduce((worst, tensor) => (tensor.kept < worst.kept ? tensor : worst))
  return [
    ['adapter preserved', `${percent(kept)}; least ${percent(least.kept)} in ${least.name}`],
    ['rounding error', `${error.toPrecision(3)} of the norm of the adapter's change`],
  ]
}
