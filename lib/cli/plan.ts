/**
 * `lowrank plan`: the memory that training will take, by category, from the shapes alone. It plans what the run itself
 * plans; weights are not read, and a config.json without any will do.
 */
import type { Command } from 'commander'
import { formatBytes, type MemoryReport } from '../memory.js'
import { resolvePrecision } from '../model.js'
import { type PlanModelOptions, planRun } from '../plan.js'
import { strategyFrom } from '../strategies/index.js'
import { describeQuantization } from '../strategies/quantization.js'
import { loadConfig, type RunConfig, resolveConfig } from '../train/config.js'
import { UsageError } from './errors.js'
import { formatCount } from './format.js'
import { collect, examples, integerFlag } from './help.js'
import { Interruption } from './interrupt.js'
import { Output } from './output.js'
import { plannedPrivacy, privacyLines } from './privacy.js'
import { DownloadShown, StatusLine } from './progress.js'
import type { Printed } from './schemas.js'

/** Flags that stand for a config file; the names are those of its keys. */
interface Shape {
  model?: string
  method?: string
  rank?: number
  targetModules?: string
  quantization?: string
  precision?: string
  perDeviceTrainBatchSize?: number
  maxSeqLength?: number
  gradientCheckpointing: boolean
}

interface Options extends Shape {
  set?: string[]
  json?: boolean
}

export function configure(command: Command): void {
  command.argument('[config]', 'a config file of `lowrank train`')
  command.option('--set <key=value>', 'change a key of the config; may be repeated', collect)
  command.option(
    '--model <path>',
    'instead of a config: a model folder, a .gguf file, a bare config.json or a name on the hub',
  )
  command.option('--method <name>', 'with --model: the strategy (see `lowrank strategies`)')
  command.option('--rank <r>', 'with --model: rank of the adapter', integerFlag(1))
  command.option('--target-modules <names>', 'with --model: what to adapt, names with commas between')
  command.option('--quantization <type>', 'with --model: none, nf4, fp4 or int8')
  command.option('--precision <type>', 'with --model: auto, fp32 or bf16')
  command.option(
    '--batch, --per-device-train-batch-size <N>',
    'with --model: sequences at once',
    integerFlag(1),
  )
  command.option('--seq-len, --max-seq-length <N>', 'with --model: tokens of a sequence', integerFlag(2))
  command.option('--no-gradient-checkpointing', 'with --model: keep all activations')
  examples(command, [
    'lowrank plan run.yaml --set per_device_train_batch_size=8',
    'lowrank plan --model HuggingFaceTB/SmolLM2-135M-Instruct --method qlora --rank 16 --batch 4 --seq-len 512',
    'lowrank plan --model Llama-70B/config.json --method qlora --json',
  ])
  command.action(async (path: string | undefined, options: Options) => {
    const output = new Output(options.json ?? false)
    const config = path === undefined ? fromFlags(options) : await fromFile(path, options)
    const { memory, quantization } = await planned(config, output)
    // Flags name no data that clients or examples could be counted in.
    const privacy = path === undefined ? undefined : await plannedPrivacy(config)
    // In the words of the config.
    const precision: Printed<'plan'>['precision'] =
      resolvePrecision(config.precision) === 'bf16' ? 'bf16' : 'fp32'
    const data = {
      model: config.model,
      method: config.strategy.name,
      trainable_parameters: memory.trainableParameters,
      total_parameters: memory.totalParameters,
      peak_bytes: memory.peakBytes,
      rows: memory.rows,
      arena_bytes: memory.arenaBytes,
      peak_at: memory.peakAt,
      quantization: describeQuantization(quantization),
      precision,
      ...(privacy ? { privacy } : {}),
    }
    output.answer<'plan'>(data, () => describe(config, memory, data))
  })
}

async function planned(config: RunConfig, output: Output): ReturnType<typeof planRun> {
  const interruption = new Interruption(output, 'Stopping.')
  const line = new StatusLine(output, 'Planning')
  line.update('')
  let download: DownloadShown | undefined
  try {
    return await planRun(config.model, {
      ...shapeOf(config),
      revision: config.revision,
      signal: interruption.signal,
      onDownload: (progress) => {
        line.clear()
        download ??= new DownloadShown(output, config.model)
        download.update(progress)
      },
    })
  } finally {
    line.clear()
    download?.end()
    interruption.dispose()
  }
}

async function fromFile(path: string, { set = [], json: _, gradientCheckpointing, ...shape }: Options) {
  const given = Object.keys(shape)
  if (given.length > 0 || !gradientCheckpointing)
    throw new UsageError(
      'give either a config file or --model with its flags; with a config, change keys by --set.',
    )
  return loadConfig(path, set)
}

function fromFlags({ model, method, rank, targetModules, set = [], ...rest }: Options): RunConfig {
  if (model === undefined || method === undefined)
    throw new UsageError('name a config file, or --model and --method.')
  if (set.length > 0) throw new UsageError('--set changes keys of a config file; with --model use the flags.')
  const { quantization, precision, perDeviceTrainBatchSize, maxSeqLength, gradientCheckpointing } = rest
  const adapter = {
    ...(rank === undefined ? {} : { r: rank }),
    ...(targetModules === undefined ? {} : { target_modules: modulesOf(targetModules) }),
  }
  const raw = {
    model,
    strategy: strategyWith(method, adapter),
    quantization,
    precision,
    per_device_train_batch_size: perDeviceTrainBatchSize,
    max_seq_length: maxSeqLength,
    gradient_checkpointing: gradientCheckpointing,
    // Shapes do not depend on the data.
    dataset: 'any',
  }
  const given = Object.entries(raw).filter(([, value]) => value !== undefined)
  return resolveConfig(Object.fromEntries(given), { name: 'plan', spelling: 'snake' }, process.cwd())
}

/** Options of an adapter belong to the inner one where a strategy wraps another. */
function strategyWith(name: string, options: Record<string, unknown>): Record<string, unknown> {
  const defaults = strategyFrom({ name }, { name: '--method', spelling: 'snake' })
  if (!('adapter' in defaults)) return { name, ...options }
  const { name: inner } = defaults.adapter as { name: string }
  return { name, adapter: { name: inner, ...options } }
}

function modulesOf(names: string): string | string[] {
  if (names === 'all-linear') return names
  const list = names.split(',').map((name) => name.trim())
  if (list.includes(''))
    throw new UsageError(
      `--target-modules '${names}': expected names with commas between, as in q_proj,v_proj.`,
    )
  return list
}

/** What of a config decides the memory. */
function shapeOf(config: RunConfig): PlanModelOptions {
  const { strategy, quantization, precision, threads } = config
  const { perDeviceTrainBatchSize, maxSeqLength, packing, gradientCheckpointing } = config
  const evaluates = config.evalDataset !== null || config.evalFraction > 0
  const batch = { perDeviceTrainBatchSize, maxSeqLength, packing, gradientCheckpointing }
  const asked = quantization === undefined ? {} : { quantization }
  return { strategy, ...asked, precision, threads, evaluates, ...batch }
}

function describe(
  config: RunConfig,
  memory: MemoryReport,
  { quantization, precision, privacy }: Pick<Printed<'plan'>, 'quantization' | 'precision' | 'privacy'>,
): string {
  const { trainableParameters: trained, totalParameters: total } = memory
  const { perDeviceTrainBatchSize: batch, maxSeqLength: length } = config
  const available = process.availableMemory()
  return [
    `${config.strategy.name} on ${config.model}`,
    `quantization ${quantization}, precision ${precision}, ${batch} x ${length} tokens at once`,
    `${formatCount(trained)} of ${formatCount(total)} parameters train (${((100 * trained) / total).toFixed(2)} %)`,
    '',
    memory.toString(),
    '',
    ...(privacy ? [...privacyLines(privacy), ''] : []),
    memory.peakBytes <= available
      ? `${formatBytes(available)} are available on this machine.`
      : `This machine has only ${formatBytes(available)} available. A smaller per_device_train_batch_size or max_seq_length takes less.`,
  ].join('\n')
}
