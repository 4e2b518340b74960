/**
 * `lowrank plan`: the memory that training will take, by category, from the shapes alone. Makes the same plan
 * as the run itself; it reads no weights, and a config.json without any is enough.
 */
import { type Command, Option } from 'commander'
import { formatBytes } from '../core/bytes.js'
import { SPLITS, type Split } from '../options/split.js'
import { type Card, cardNamed } from '../planning/cards.js'
import type { MemoryReport } from '../planning/memory-report.js'
import { type MemorySettings, memoryAdvice } from '../planning/room.js'
import { timelineSvg, timelineText } from '../planning/timeline.js'
import { loadConfig, type RunConfig } from '../train/config/config.js'
import { withLabels } from '../train/config/labels.js'
import { memorySettings } from '../train/config/preflight.js'
import { onSplit } from '../train/config/split.js'
import { rowData } from '../train/records/event-schemas.js'
import type { RunTime } from '../train/run/run-time.js'
import { resolvePrecision } from '../weights/choice.js'
import { describeBoth, describeQuantization } from '../weights/quantization.js'
import { UsageError } from './errors.js'
import { formatCount } from './format.js'
import { collect, examples, integerFlag, memoryFlag, notedOn } from './help.js'
import { columnsFor } from './live-lines.js'
import { Output } from './output.js'
import { checkOutputFile, writeOutputFile } from './output-file.js'
import { cardData, roomLine, workLine } from './plan/card.js'
import { apartFrom, bytesBeside, choiceData, describeFit, shapeOfChoice } from './plan/fit.js'
import { fromFlags, type Shape, shapeFlags } from './plan/flags.js'
import { kernelsData, kernelsText } from './plan/kernels.js'
import { type Planned, planned } from './plan/planned.js'
import type { ProcessMemory } from './plan/process-memory.js'
import { cachedBytes, checkRanksAlone, layersMemory, onRanks, ranksMemory, ranksText } from './plan/ranks.js'
import { type Target, targetOf } from './plan/target.js'
import { plannedPrivacy, privacyLines } from './privacy.js'
import type { Printed } from './schemas.js'
import { timeData, timeText } from './time.js'

interface Options extends Shape {
  set?: string[]
  fit?: number
  /** The card to plan for, or `cpu`. */
  device?: Card | 'cpu'
  /** Path of a file, or true if the flag has no value. */
  timeline?: string | true
  force?: boolean
  kernels?: boolean
  ranks?: number
  split?: Split
  json?: boolean
}

export function configure(command: Command): void {
  command.argument('[config]', 'a config file of `lowrank train`')
  command.option('--set <key=value>', 'change a key of the config; may be repeated', collect)
  shapeFlags(command)
  command.option(
    '--fit <size>',
    'find the micro-batch size, checkpointing, offloading, and paging that fit into this much memory, such as 8GiB',
    memoryFlag,
  )
  command.option(
    '--device <name>',
    `plan for cpu, or for an NVIDIA GPU, which need not be there: cuda:24GB, or by name, such as cuda:rtx-4090 (default: device of the config)`,
    deviceFlag,
  )
  command.option('--ranks <N>', 'also plan the memory of N ranks of MPI on one machine', integerFlag(1))
  command.addOption(
    new Option('--split <what>', 'what the ranks share (default: split of the config)').choices(SPLITS),
  )
  command.option('--timeline [file]', 'report the live bytes at each step; with an .svg file, also draw them')
  command.option('--force', 'replace the picture of --timeline')
  command.option(
    '--kernels',
    "count the kernels of a micro-batch and the optimizer's update, the bytes that they read and write, and their workspace",
  )
  examples(command, [
    'lowrank plan run.yaml --set per_device_train_batch_size=8',
    'lowrank plan --model HuggingFaceTB/SmolLM2-135M-Instruct --method qlora --rank 16 --batch 4 --seq-len 512',
    'lowrank plan --model Llama-70B/config.json --method qlora --kernels',
    'lowrank plan run.yaml --fit 8GiB --timeline step.svg',
    'lowrank plan run.yaml --device cuda:rtx-4090 --fit 24GB',
  ])
  command.action(async (path: string | undefined, options: Options) => {
    const output = new Output(options.json ?? false)
    const { fit: budget, timeline, force = false, kernels: counts, device, ranks, split, ...rest } = options
    if (typeof timeline === 'string' && !timeline.endsWith('.svg'))
      throw new UsageError(`--timeline ${timeline}: expected a file that ends with .svg, or none.`)
    if (typeof timeline === 'string') await checkOutputFile(timeline, '--timeline', force)
    if (split !== undefined && ranks === undefined)
      throw new UsageError(`--split ${split} is what ranks share; add --ranks N.`)
    const read = path === undefined ? shapeOnly(rest) : await withLabels(await fromFile(path, rest, output))
    const given = split === undefined ? read : { ...read, split }
    const config = ranks === undefined ? given : onRanks(given, ranks)
    const target: Target =
      device === undefined
        ? targetOf(ranks === undefined ? config : onSplit(config))
        : { card: device === 'cpu' ? undefined : device }
    const { card } = target
    if (ranks !== undefined)
      checkRanksAlone(ranks, {
        '--fit': budget !== undefined,
        'layers on a GPU': config.split === 'layers' && card !== undefined,
      })
    const hasData = path !== undefined
    const { memory, quantization, embeddingQuantization, fit, beside, paged, time, kernels, parts } =
      await planned(config, { budget, hasData, card, ranks, counts: counts ?? false }, output)
    const best = fit?.choices[0]
    // Without a config there is no data in which to count clients or examples.
    const privacy = hasData ? await plannedPrivacy(config) : undefined
    // With the names that configs use.
    const precision: Printed<'plan'>['precision'] =
      (card && config.precision === 'auto') || resolvePrecision(config.precision) === 'bf16' ? 'bf16' : 'fp32'
    const held = describeBoth({ quantization, embeddingQuantization })
    const accumulation = best?.gradientAccumulationSteps ?? config.gradientAccumulationSteps
    const onCard = card && kernels ? { card, plan: cardData(card, memory, kernels, accumulation) } : undefined
    const processBytes = (card ? memory.pinnedBytes : memory.peakBytes) + bytesBeside(beside)
    const together = parts
      ? layersMemory(parts, bytesBeside(beside))
      : ranks === undefined
        ? undefined
        : ranksMemory(ranks, processBytes, card ? 0 : cachedBytes(memory))
    const data = {
      model: config.model,
      method: config.strategy.name,
      trainable_parameters: memory.trainableParameters,
      total_parameters: memory.totalParameters,
      peak_bytes: memory.peakBytes,
      ...(memory.pinnedBytes > 0 ? { pinned_bytes: memory.pinnedBytes } : {}),
      rows: memory.rows.map(rowData),
      process: {
        bytes: processBytes,
        runtime_bytes: beside.runtimeBytes,
        data_bytes: beside.dataBytes,
      },
      ...(together ? { ranks: together } : {}),
      time: 'unknown' in time ? null : timeData(time),
      ...(onCard ? { card: onCard.plan } : {}),
      arena_bytes: memory.arenaBytes,
      peak_at: memory.peakAt,
      quantization: describeQuantization(quantization),
      embedding_quantization: describeQuantization(embeddingQuantization),
      precision,
      ...(privacy ? { privacy } : {}),
      ...(timeline === undefined ? {} : { timeline: timelineData(memory) }),
      ...(kernels && counts ? { kernels: kernelsData(kernels) } : {}),
      ...(fit === undefined
        ? {}
        : { fit: { budget_bytes: budget as number, choices: fit.choices.map(choiceData) } }),
    }
    if (typeof timeline === 'string')
      await writeOutputFile(timeline, timelineSvg(memory, `${config.strategy.name} on ${config.model}`))
    output.answer<'plan'>(data, () =>
      [
        ...(fit === undefined
          ? []
          : [
              describeFit(config, fit, budget as number, apartFrom(beside, card), columnsFor(output.stdout)),
              '',
            ]),
        describe(best === undefined ? config : { ...config, ...shapeOfChoice(best) }, memory, {
          ...data,
          held,
          paged,
          room: onCard && roomLine(onCard.card, onCard.plan),
          settings: memorySettings(config, { quantization, embeddingQuantization }),
        }),
        ...(target.note ? [target.note] : []),
        processLine(card ? memory.pinnedBytes : memory.peakBytes, beside, card !== undefined),
        ...(together ? [ranksText(together, card !== undefined)] : []),
        onCard ? workLine(onCard.card, onCard.plan) : timeLine(time),
        ...(timeline === undefined ? [] : ['', timelineText(memory)]),
        ...(kernels && counts ? ['', kernelsText(kernelsData(kernels))] : []),
      ].join('\n'),
    )
  })
}

function deviceFlag(text: string): Card | 'cpu' {
  if (text === 'cpu') return 'cpu'
  const name = /^cuda:(\D.*|\d+.*[a-z]+)$/i.exec(text)?.[1]
  if (name === undefined)
    throw new UsageError(
      `--device '${text}': expected cpu, or cuda: and a card or its memory, as in cuda:rtx-4090 or cuda:24GB; without it the plan is for the device of the config.`,
    )
  return cardNamed(name)
}

/** Memory of the whole process, as the system reports it. @param peakBytes peak of the plan in host memory */
function processLine(peakBytes: number, beside: ProcessMemory, onCard: boolean): string {
  const { runtimeBytes, dataBytes } = beside
  const data = dataBytes > 0 ? `, about ${formatBytes(dataBytes)} for the data` : ''
  const peak = peakBytes === 0 ? '' : onCard ? `${formatBytes(peakBytes)} of pinned memory, ` : 'the peak, '
  return `process about ${formatBytes(peakBytes + bytesBeside(beside))}: ${peak}${formatBytes(runtimeBytes)} for Node.js and JavaScript${data} (estimated)`
}

function timeLine(time: RunTime): string {
  if ('unknown' in time) return `time not known: ${time.unknown}`
  return `time ${timeText(time)} (measured on this machine; other programs slow it down)`
}

function shapeOnly({ set = [], ...shape }: Options): RunConfig {
  if (shape.model !== undefined && set.length > 0)
    throw new UsageError('--set changes keys of a config file; use flags with --model.')
  return fromFlags(shape)
}

async function fromFile(
  path: string,
  { set = [], json: _, gradientCheckpointing, ...shape }: Options,
  output: Output,
) {
  const given = Object.keys(shape)
  if (given.length > 0 || !gradientCheckpointing)
    throw new UsageError(
      'pass either a config file, or --model with its flags; to change keys of a config, use --set.',
    )
  return loadConfig(path, set, notedOn(output))
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

function describe(
  config: RunConfig,
  memory: MemoryReport,
  {
    held,
    precision,
    privacy,
    paged,
    room,
    settings,
  }: Pick<Printed<'plan'>, 'precision' | 'privacy'> &
    Pick<Planned, 'paged'> & { held: string; room: string | undefined; settings: MemorySettings },
): string {
  const { trainableParameters: trained, totalParameters: total } = memory
  const { perDeviceTrainBatchSize: batch, maxSeqLength: length } = config
  const available = process.availableMemory()
  return [
    `${config.strategy.name} on ${config.model}`,
    `quantization ${held}, precision ${precision}, ${batch} x ${length} tokens per micro-batch`,
    `${formatCount(trained)} of ${formatCount(total)} parameters train (${((100 * trained) / total).toFixed(2)} %)`,
    '',
    memory.toString(),
    '',
    ...(privacy ? [...privacyLines(privacy), ''] : []),
    room !== undefined
      ? room
      : memory.peakBytes <= available
        ? `${formatBytes(available)} are available on this machine.`
        : `This machine has only ${formatBytes(available)} available. ${memoryAdvice(memory, settings)}`,
    ...(paged
      ? [
          `A run on this machine pages the optimizer state (${paged.optimizer.type} with ${paged.optimizer.resident} in memory), with a peak of ${formatBytes(paged.peakBytes)}.`,
        ]
      : []),
  ].join('\n')
}
