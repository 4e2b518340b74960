/**
 * `lowrank plan`: the memory that training will take, by category, from the shapes alone. It plans what the run itself
 * plans; weights are not read, and a config.json without any will do.
 */
import { existsSync } from 'node:fs'
import type { Command } from 'commander'
import { formatBytes } from '../core/bytes.js'
import { OutOfMemoryError } from '../core/errors.js'
import { toFileKeys } from '../core/schema.js'
import type { DownloadProgress } from '../hub/locate.js'
import { writeFileWhole } from '../io/atomic.js'
import { type Optimizer, type PagedAdamW, shortOptimizer } from '../options/optimizers.js'
import { type Fit, type FitChoice, fitRun } from '../planning/fit.js'
import type { MemoryReport } from '../planning/memory-report.js'
import { openPlanner, type PlanModelOptions, type Planner } from '../planning/plan.js'
import { timelineSvg, timelineText } from '../planning/timeline.js'
import { usualOptimizer } from '../planning/usual-optimizer.js'
import { readStrategy, rulesOf } from '../strategies/index.js'
import type { StrategyConfig } from '../strategies/strategy.js'
import { type Machine, machineNamed } from '../time/machines.js'
import { configSchema, loadConfig, type RunConfig, resolveConfig } from '../train/config.js'
import { configText } from '../train/config-text.js'
import { foldersOf } from '../train/output-folder.js'
import { type DataSize, dataSize, type RunTime, runTime, threadsOf } from '../train/run-time.js'
import { resolvePrecision } from '../weights/choice.js'
import { describeBoth, describeQuantization, type TrainingDefaults } from '../weights/quantization.js'
import { UsageError } from './errors.js'
import { formatCount } from './format.js'
import { bytesFlag, collect, examples, integerFlag, notedOn } from './help.js'
import { Interruption } from './interrupt.js'
import { Output } from './output.js'
import { plannedPrivacy, privacyLines } from './privacy.js'
import { type ProcessMemory, processMemory } from './process-memory.js'
import { DownloadShown, StatusLine } from './progress.js'
import type { Printed } from './schemas.js'
import { timeData, timeText } from './time.js'

/** Flags that stand for a config file; the names are those of its keys. */
interface Shape {
  model?: string
  method?: string
  rank?: number
  targetModules?: string
  quantization?: string
  embeddingQuantization?: string
  precision?: string
  pagedWeights?: true | string
  perDeviceTrainBatchSize?: number
  maxSeqLength?: number
  gradientCheckpointing: boolean
  activationOffloading?: boolean
  keepAttention?: boolean
  logitsMemory?: string
  optimizer?: string
  optimizerInBackward?: boolean
  threads?: number
}

interface Options extends Shape {
  set?: string[]
  fit?: number
  /** Name of the machine whose figures tell the time. */
  machine?: string
  /** A file, or true for none. */
  timeline?: string | true
  json?: boolean
}

export function configure(command: Command): void {
  command.argument('[config]', 'a config file of `lowrank train`')
  command.option('--set <key=value>', 'change a key of the config; may be repeated', collect)
  command.option(
    '--model <path>',
    'instead of a config: a model folder, a .gguf file, a lone config.json, or a name on the hub',
  )
  command.option('--method <name>', 'with --model: the strategy (see `lowrank strategies`)')
  command.option('--rank <r>', 'with --model: rank of the adapter', integerFlag(1))
  command.option('--target-modules <names>', 'with --model: linears to adapt, separated by commas')
  command.option('--quantization <type>', 'with --model: none, nf4, fp4, int8, or keep')
  command.option('--embedding-quantization <type>', 'with --model: the same for the embedding and the head')
  command.option('--precision <type>', 'with --model: auto, fp32, or bf16')
  command.option(
    '--paged-weights [size]',
    'with --model: keep the weights in a file, with at most this much of them in memory, such as 2GiB (default: chosen)',
  )
  command.option(
    '--batch, --per-device-train-batch-size <N>',
    'with --model: sequences per micro-batch',
    integerFlag(1),
  )
  command.option('--seq-len, --max-seq-length <N>', 'with --model: tokens per sequence', integerFlag(2))
  command.option('--no-gradient-checkpointing', 'with --model: keep all activations')
  command.option('--activation-offloading', 'with --model: keep checkpointed activations in a file')
  command.option('--keep-attention', 'with --model: do not recompute attention')
  command.option('--logits-memory <size>', 'with --model: memory of logits at a time, such as 16MiB')
  command.option('--optimizer <type>', 'with --model: adamw, paged_adamw_8bit, lion, …')
  command.option(
    '--optimizer-in-backward',
    'with --model: update each tensor in the backward pass, without clipping',
  )
  command.option('--threads <N>', 'with --model: threads of the machine to plan for', integerFlag(1))
  command.option(
    '--fit <size>',
    'find the micro-batch size, checkpointing, offloading, and paging that fit into this much memory, such as 8GiB',
    bytesFlag,
  )
  command.option('--machine <name>', 'estimate the time on another machine, by its name in machines/')
  command.option('--timeline [file]', 'report the live bytes at each step; with an .svg file, also draw them')
  examples(command, [
    'lowrank plan run.yaml --set per_device_train_batch_size=8',
    'lowrank plan --model HuggingFaceTB/SmolLM2-135M-Instruct --method qlora --rank 16 --batch 4 --seq-len 512',
    'lowrank plan --model Llama-70B/config.json --method qlora --json',
    'lowrank plan run.yaml --fit 8GiB --timeline step.svg',
    'lowrank plan run.yaml --machine epyc-avx512-bf16-2c',
  ])
  command.action(async (path: string | undefined, options: Options) => {
    const output = new Output(options.json ?? false)
    const { fit: budget, timeline, machine: name, ...rest } = options
    const machine = name === undefined ? undefined : machineNamed(name)
    if (typeof timeline === 'string' && !timeline.endsWith('.svg'))
      throw new UsageError(`--timeline ${timeline}: expected a file that ends with .svg, or none.`)
    const given = path === undefined ? fromFlags(rest) : await fromFile(path, rest, output)
    const config = machine === undefined ? given : onMachine(given, machine)
    const hasData = path !== undefined
    const { memory, quantization, embeddingQuantization, fit, beside, paged, time } = await planned(
      config,
      { budget, hasData, machine },
      output,
    )
    const best = fit?.choices[0]
    // Flags name no data that clients or examples could be counted in.
    const privacy = hasData ? await plannedPrivacy(config) : undefined
    // In the words of the config.
    const precision: Printed<'plan'>['precision'] =
      resolvePrecision(config.precision) === 'bf16' ? 'bf16' : 'fp32'
    const held = describeBoth({ quantization, embeddingQuantization })
    const data = {
      model: config.model,
      method: config.strategy.name,
      trainable_parameters: memory.trainableParameters,
      total_parameters: memory.totalParameters,
      peak_bytes: memory.peakBytes,
      rows: memory.rows,
      process: {
        bytes: memory.peakBytes + bytesBeside(beside),
        runtime_bytes: beside.runtimeBytes,
        data_bytes: beside.dataBytes,
      },
      time: 'unknown' in time ? null : timeData(time),
      arena_bytes: memory.arenaBytes,
      peak_at: memory.peakAt,
      quantization: describeQuantization(quantization),
      embedding_quantization: describeQuantization(embeddingQuantization),
      precision,
      ...(privacy ? { privacy } : {}),
      ...(timeline === undefined ? {} : { timeline: timelineData(memory) }),
      ...(fit === undefined
        ? {}
        : { fit: { budget_bytes: budget as number, choices: fit.choices.map(choiceData) } }),
    }
    if (typeof timeline === 'string')
      await writeFileWhole(timeline, timelineSvg(memory, `${config.strategy.name} on ${config.model}`))
    output.answer<'plan'>(data, () =>
      [
        ...(fit === undefined ? [] : [describeFit(config, fit, budget as number, beside), '']),
        describe(best === undefined ? config : { ...config, ...shapeOfChoice(best) }, memory, {
          ...data,
          held,
          paged,
        }),
        processLine(memory, beside),
        timeLine(time),
        ...(timeline === undefined ? [] : ['', timelineText(memory)]),
      ].join('\n'),
    )
  })
}

const bytesBeside = ({ runtimeBytes, dataBytes }: ProcessMemory) => runtimeBytes + dataBytes

/** The whole process, which is what other programs and the system count. */
export function processLine({ peakBytes }: MemoryReport, beside: ProcessMemory): string {
  const { runtimeBytes, dataBytes } = beside
  const data = dataBytes > 0 ? `, about ${formatBytes(dataBytes)} for the data` : ''
  return `process about ${formatBytes(peakBytes + bytesBeside(beside))}: the peak, ${formatBytes(runtimeBytes)} for Node.js and JavaScript${data} (estimated)`
}

function timeLine(time: RunTime): string {
  if ('unknown' in time) return `time not known: ${time.unknown}`
  return `time ${timeText(time)} (${time.machine === null ? 'measured on this machine; other programs make it longer' : `by the figures of ${time.machine}`})`
}

/** What `auto` stands for on another machine. */
function onMachine(config: RunConfig, { prefers_bf16: prefersBf16, threads }: Machine): RunConfig {
  return {
    ...config,
    precision: config.precision === 'auto' ? (prefersBf16 ? 'bf16' : 'fp32') : config.precision,
    threads: config.threads === 'auto' ? threads : config.threads,
  }
}

interface Planned extends Pick<Planner, 'quantization' | 'embeddingQuantization'> {
  memory: MemoryReport
  /** Where the run would take another optimizer on this machine than the one that is planned. */
  paged?: { optimizer: PagedAdamW; peakBytes: number }
  /** What fits, where a budget was given; at least one way does. */
  fit?: Fit
  /** What the process takes beside the plan. */
  beside: ProcessMemory
  /** Of what is planned, and with a budget of the best choice. */
  time: RunTime
}

/** What is asked for beside the config. */
interface Asked {
  budget: number | undefined
  /** Whether the config names its data. */
  hasData: boolean
  machine: Machine | undefined
}

async function planned(
  config: RunConfig,
  { budget, hasData, machine }: Asked,
  output: Output,
): Promise<Planned> {
  const interruption = new Interruption(output, 'Stopping.')
  const line = new StatusLine(output, 'Planning')
  line.update('')
  let download: DownloadShown | undefined
  try {
    const options = {
      ...shapeOf(config),
      revision: config.revision,
      signal: interruption.signal,
      onDownload: (progress: DownloadProgress) => {
        line.clear()
        download ??= new DownloadShown(output, config.model)
        download.update(progress)
      },
    }
    const { dataset, evalDataset } = config
    const data = hasData ? [dataset, ...(evalDataset === null ? [] : [evalDataset])] : []
    const beside = () =>
      processMemory(data, {
        signal: interruption.signal,
        onMeasure: () => line.update('measuring once what Node.js takes on this machine'),
      })
    const timeOf = async (setting: Planner['setting'], run: RunConfig) =>
      runTime(setting, run, {
        ...{ machine, signal: interruption.signal, threads: threadsOf(config.threads) },
        data: hasData ? () => sizeOfData(config, interruption.signal) : undefined,
        onMeasure: () => line.update('measuring once how fast this machine is'),
      })
    if (budget === undefined) {
      const { plan, setting, ...held } = await openPlanner(config.model, options)
      const memory = plan()
      const [process, time] = [await beside(), await timeOf(setting, config)]
      return { memory, ...held, beside: process, time, ...pagedHere(config, plan) }
    }
    const { gradientAccumulationSteps, maxGradNorm } = config
    const held = await beside()
    const left = Math.max(0, budget - bytesBeside(held))
    const fit = await fitRun(config.model, { ...options, gradientAccumulationSteps, maxGradNorm }, left)
    const { least } = fit
    if (least) throw nothingFits(config, least, fit, budget, held)
    const [best] = fit.choices as [FitChoice]
    const { quantization, embeddingQuantization, setting } = fit
    const { perDeviceTrainBatchSize, gradientCheckpointing, optimizerInBackward = false } = best
    const chosen = { perDeviceTrainBatchSize, gradientCheckpointing, optimizerInBackward }
    const time = await timeOf(
      { ...setting, options: { ...setting.options, ...chosen } },
      { ...config, ...shapeOfChoice(best) },
    )
    return { memory: best.memory, quantization, embeddingQuantization, fit, beside: held, time }
  } finally {
    line.clear()
    download?.end()
    interruption.dispose()
  }
}

/** What the data comes to, if it and the tokenizer are on the disk. */
async function sizeOfData(config: RunConfig, signal: AbortSignal): Promise<DataSize | undefined> {
  const { model, dataset, evalDataset, evalFraction } = config
  if (!existsSync(model) || model.endsWith('.json')) return undefined
  const kind = model.endsWith('.gguf') ? 'gguf' : 'folder'
  const all = await dataSize(dataset, { kind, path: model }, config, signal)
  const share = evalDataset === null ? 1 - evalFraction : 1
  return all && { examples: share * all.examples, tokens: share * all.tokens }
}

/** What a run on this machine does where the plan does not fit and no optimizer is named. */
function pagedHere({ optimizer: asked, strategy, outputDir }: RunConfig, plan: Planner['plan']) {
  if (asked !== null) return {}
  const planned = (optimizer: Optimizer) => plan({ optimizer })
  const { runDir } = foldersOf(outputDir, strategy)
  const optimizer = usualOptimizer(strategy, planned, process.availableMemory(), runDir)
  if (typeof optimizer === 'string' || !('resident' in optimizer)) return {}
  return { paged: { optimizer, peakBytes: planned(optimizer).peakBytes } }
}

async function fromFile(
  path: string,
  { set = [], json: _, gradientCheckpointing, ...shape }: Options,
  output: Output,
) {
  const given = Object.keys(shape)
  if (given.length > 0 || !gradientCheckpointing)
    throw new UsageError(
      'give either a config file or --model with its flags; with a config, change keys by --set.',
    )
  return loadConfig(path, set, notedOn(output))
}

function fromFlags({ model, method, rank, targetModules, set = [], ...rest }: Options): RunConfig {
  if (model === undefined || method === undefined)
    throw new UsageError('name a config file, or --model and --method.')
  if (set.length > 0) throw new UsageError('--set changes keys of a config file; with --model use the flags.')
  const { quantization, embeddingQuantization, precision, pagedWeights } = rest
  const { perDeviceTrainBatchSize, maxSeqLength, gradientCheckpointing, activationOffloading } = rest
  const adapter = {
    ...(rank === undefined ? {} : { rank }),
    ...(targetModules === undefined ? {} : { target_modules: modulesOf(targetModules) }),
  }
  const raw = {
    model,
    strategy: strategyWith(method, adapter),
    quantization,
    embedding_quantization: embeddingQuantization,
    precision,
    paged_weights: pagedWeights,
    per_device_train_batch_size: perDeviceTrainBatchSize,
    max_seq_length: maxSeqLength,
    gradient_checkpointing: gradientCheckpointing,
    activation_offloading: activationOffloading,
    keep_attention: rest.keepAttention,
    logits_memory: rest.logitsMemory,
    optimizer: rest.optimizer,
    threads: rest.threads,
    ...(rest.optimizerInBackward && { optimizer_in_backward: true, max_grad_norm: 0 }),
    // Shapes do not depend on the data.
    dataset: 'any',
  }
  const given = Object.entries(raw).filter(([, value]) => value !== undefined)
  return resolveConfig(Object.fromEntries(given), { name: 'plan', spelling: 'snake' }, process.cwd())
}

/** Options of an adapter belong to the inner one where a strategy wraps another. */
function strategyWith(
  name: string,
  { rank, ...options }: { rank?: number; target_modules?: string | string[] },
): Record<string, unknown> {
  const defaults = readStrategy({ name }, { name: '--method', spelling: 'snake' })
  const ranks = rank === undefined ? {} : ranksOf(defaults, rank)
  if (!('adapter' in defaults)) return { name, ...ranks, ...options }
  const { name: inner } = defaults.adapter as { name: string }
  return { name, adapter: { name: inner, ...ranks, ...options } }
}

/** A rank in the keys of a strategy. AdaLoRA's falls while it trains: that of the start decides the memory. */
function ranksOf(defaults: StrategyConfig, rank: number): Record<string, number> {
  if (!('targetR' in defaults)) return { r: rank }
  return { init_r: rank, target_r: Math.min(rank, defaults.targetR as number) }
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
function shapeOf(config: RunConfig) {
  const { strategy, quantization, embeddingQuantization, precision, pagedWeights, threads } = config
  const { perDeviceTrainBatchSize, maxSeqLength, packing, optimizer, optimizerInBackward } = config
  const { gradientCheckpointing, activationOffloading, keepAttention, logitsMemory } = config
  const { metricForBestModel } = config
  const evaluates = config.evalDataset !== null || config.evalFraction > 0
  const batch = {
    perDeviceTrainBatchSize,
    maxSeqLength,
    packing,
    gradientCheckpointing,
    activationOffloading,
    keepAttention,
    logitsMemory,
    metricForBestModel,
  }
  const base = {
    ...(quantization && { quantization }),
    ...(embeddingQuantization && { embeddingQuantization }),
    ...{ precision, pagedWeights },
  }
  const updates = { optimizer, optimizerInBackward }
  return { strategy, ...base, threads, evaluates, ...updates, ...batch } satisfies PlanModelOptions
}

function shapeOfChoice(choice: FitChoice) {
  const { perDeviceTrainBatchSize, gradientAccumulationSteps, gradientCheckpointing } = choice
  return { perDeviceTrainBatchSize, gradientAccumulationSteps, gradientCheckpointing }
}

function nothingFits(
  { strategy, maxSeqLength: length }: RunConfig,
  least: FitChoice,
  { quantization, embeddingQuantization }: TrainingDefaults,
  budget: number,
  beside: ProcessMemory,
): OutOfMemoryError {
  const { memory, perDeviceTrainBatchSize: batch, gradientCheckpointing: recompute } = least
  const held = costOf(least)
  const frozen = rulesOf(strategy).saves !== 'model'
  const advice = !frozen
    ? 'An adapter (lora, or qlora over 4 bits) or a'
    : quantization?.type === 'none'
      ? 'Quantizing the base (nf4) or a'
      : embeddingQuantization?.type === 'none'
        ? 'Quantizing embedding and head too (embedding_quantization: int8 or nf4) or a'
        : 'A'
  return new OutOfMemoryError(
    `nothing fits ${formatBytes(budget)}: the least is ${formatBytes(memory.peakBytes)} and about ${formatBytes(bytesBeside(beside))} for Node.js and the data, with ${batch} x ${length} tokens at once and ${recompute ? '' : 'no '}gradient checkpointing${held && ` (${held})`}; ${formatBytes(memory.residentBytes)} of it do not depend on these. ${advice} smaller max_seq_length takes less; else take a smaller model or a larger machine.`,
    { budget, peakBytes: memory.peakBytes, residentBytes: memory.residentBytes, ...beside },
  )
}

type Choice = NonNullable<Printed<'plan'>['fit']>['choices'][number]
type FitKeys = Omit<
  Choice,
  'peak_bytes' | 'multiply_adds' | 'activation_bytes_moved' | 'state_bytes_moved' | 'base_bytes_read'
>

function choiceData(choice: FitChoice): Choice {
  return {
    ...(toFileKeys(configSchema, keysOf(choice)) as FitKeys),
    peak_bytes: choice.memory.peakBytes,
    multiply_adds: choice.multiplyAdds,
    activation_bytes_moved: choice.activationBytesMoved,
    state_bytes_moved: choice.stateBytesMoved,
    base_bytes_read: choice.baseBytesRead,
  }
}

function timelineData({ timeline, residentBytes }: MemoryReport) {
  return {
    resident_bytes: residentBytes,
    steps: timeline.map(({ phase, kernel, node, liveBytes, multiplyAdds }) => ({
      phase,
      kernel,
      node,
      live_bytes: liveBytes,
      multiply_adds: multiplyAdds,
    })),
  }
}

/** The keys of a config that a choice stands for. */
function keysOf(choice: FitChoice): Partial<RunConfig> {
  const { activationOffloading, optimizer, optimizerInBackward, pagedWeights } = choice
  return {
    ...shapeOfChoice(choice),
    ...(activationOffloading && { activationOffloading }),
    ...(optimizerInBackward && { optimizerInBackward }),
    // Settings that are the usual ones may be absent from a config.
    ...(optimizer && { optimizer: shortOptimizer(optimizer) as RunConfig['optimizer'] }),
    ...(pagedWeights && { pagedWeights }),
  }
}

/** What a choice has otherwise than asked for, and what the disk has to do with it. */
function costOf(choice: FitChoice): string {
  const { activationOffloading, optimizer, optimizerInBackward, pagedWeights } = choice
  const { memory, activationBytesMoved, stateBytesMoved, baseBytesRead } = choice
  const resident = optimizer && 'resident' in optimizer ? ` in ${optimizer.resident}` : ''
  const rounds = optimizer?.type.endsWith('8bit') ? ' (rounds otherwise)' : ''
  const moved = stateBytesMoved > 0 ? `, ${formatBytes(stateBytesMoved)} moved a step` : ''
  const read = `, ${formatBytes(baseBytesRead)} read a micro-batch`
  return [
    ...(optimizerInBackward ? ['updates in the backward pass'] : []),
    ...(activationOffloading
      ? [`activations on the disk, ${formatBytes(activationBytesMoved)} moved a micro-batch`]
      : []),
    ...(optimizer ? [`${optimizer.type}${resident}${rounds}${moved}`] : []),
    ...(pagedWeights ? [`base in ${formatBytes(memory.bytes('paged_weights'))}${read}`] : []),
  ].join('; ')
}

/** What fits, by what it costs, and the keys of the best. */
function describeFit(config: RunConfig, { choices }: Fit, budget: number, beside: ProcessMemory): string {
  const [best] = choices as [FitChoice]
  const sequences = best.perDeviceTrainBatchSize * best.gradientAccumulationSteps
  const rows = choices.map((choice) => [
    `${choice.perDeviceTrainBatchSize} x ${config.maxSeqLength}`,
    String(choice.gradientAccumulationSteps),
    choice.gradientCheckpointing ? 'yes' : 'no',
    formatBytes(choice.memory.peakBytes),
    `${(choice.multiplyAdds / best.multiplyAdds).toFixed(2)} x`,
  ])
  const table = [['at once', 'accumulated', 'checkpointing', 'peak', 'multiply-adds'], ...rows]
  const widths = rows[0]?.map((_, i) => Math.max(...table.map((row) => (row[i] as string).length))) ?? []
  const costs = ['', ...choices.map(costOf)]
  const lines = table.map((row) => row.map((cell, i) => cell.padStart(widths[i] as number)).join('   '))
  const changed = choices.some(
    (choice) => choice.activationOffloading || choice.optimizer || choice.pagedWeights,
  )
  return [
    `${sequences} sequences a step fit ${formatBytes(budget)}, about ${formatBytes(bytesBeside(beside))} of which go to Node.js and the data, in these ways, ${changed ? 'those that change least first, then ' : ''}the fastest first:`,
    '',
    ...lines.map((line, i) => `${line}   ${costs[i]}`.trimEnd()),
    '',
    'Multiply-adds are counted over the products with base weights; they say what checkpointing costs. Micro-batches of',
    'few tokens are slower than the count says, since each reads all weights.',
    ...(changed
      ? [
          'What lies on the disk or is paged gives the same numbers, bit for bit; state of 8 bits rounds otherwise than',
          'that of 32.',
        ]
      : []),
    '',
    configText(keysOf(best)).trimEnd(),
  ].join('\n')
}

function describe(
  config: RunConfig,
  memory: MemoryReport,
  {
    held,
    precision,
    privacy,
    paged,
  }: Pick<Printed<'plan'>, 'precision' | 'privacy'> & Pick<Planned, 'paged'> & { held: string },
): string {
  const { trainableParameters: trained, totalParameters: total } = memory
  const { perDeviceTrainBatchSize: batch, maxSeqLength: length } = config
  const available = process.availableMemory()
  return [
    `${config.strategy.name} on ${config.model}`,
    `quantization ${held}, precision ${precision}, ${batch} x ${length} tokens at once`,
    `${formatCount(trained)} of ${formatCount(total)} parameters train (${((100 * trained) / total).toFixed(2)} %)`,
    '',
    memory.toString(),
    '',
    ...(privacy ? [...privacyLines(privacy), ''] : []),
    memory.peakBytes <= available
      ? `${formatBytes(available)} are available on this machine.`
      : `This machine has only ${formatBytes(available)} available. A smaller per_device_train_batch_size or max_seq_length takes less.`,
    ...(paged
      ? [
          `A run here pages the optimizer's state (${paged.optimizer.type} with ${paged.optimizer.resident} in memory), and its peak is ${formatBytes(paged.peakBytes)}.`,
        ]
      : []),
  ].join('\n')
}
