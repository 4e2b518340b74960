/** Memory of a run with several ranks on one machine, from the plan of a single process. */
import { formatBytes } from '../../core/bytes.js'
import type { MemoryReport } from '../../planning/memory-report.js'
import type { RunConfig } from '../../train/config/config.js'
import { checkSplit } from '../../train/config/split.js'
import { threadsOf } from '../../train/run/run-time.js'
import { UsageError } from '../errors.js'
import type { Printed } from '../schemas.js'
import type { RankPart } from './planned.js'

type RanksMemory = NonNullable<Printed<'plan'>['ranks']>

/** Bytes of weights that ranks on one machine share if they are cached. */
export const cachedBytes = (memory: MemoryReport): number =>
  memory.bytes('weights') + memory.bytes('quantization_constants')

/** The config of each rank; the ranks share the threads of the machine. */
export function onRanks(config: RunConfig, ranks: number): RunConfig {
  if (ranks > 1) checkSplit(config)
  const { threads } = config
  return threads === 'auto'
    ? { ...config, threads: Math.max(1, Math.floor(threadsOf(threads) / ranks)) }
    : config
}

/** @throws {UsageError} for requests that support only one process */
export function checkRanksAlone(ranks: number, others: Readonly<Record<string, boolean>>): void {
  const other = Object.keys(others).find((name) => others[name])
  if (ranks > 1 && other !== undefined)
    throw new UsageError(`--ranks ${ranks} cannot be planned with ${other}; leave one of them out.`)
}

/**
 * The memory of each rank. Rank 0 holds the adapter of all ranks while it saves it.
 * @param besideBytes memory of a process in addition to the plan
 */
export function layersMemory(parts: readonly RankPart[], besideBytes: number): RanksMemory {
  const adapterBytes = parts.reduce(
    (sum, { memory }) =>
      sum + memory.bytes('adapters') + memory.bytes('gradients') + memory.bytes('optimizer'),
    0,
  )
  const layers = parts.map(({ first, last, memory }, rank) => {
    const saveBytes = rank === 0 ? adapterBytes : 0
    return {
      first,
      last,
      weight_bytes: cachedBytes(memory),
      save_bytes: saveBytes,
      bytes: memory.peakBytes + besideBytes + saveBytes,
    }
  })
  const sizes = layers.map(({ bytes }) => bytes)
  return {
    count: parts.length,
    rank_bytes: Math.max(...sizes),
    shared_bytes: 0,
    machine_bytes: sizes.reduce((sum, bytes) => sum + bytes, 0),
    layers,
  }
}

/** @param processBytes memory of a single process, of which the ranks of a machine share `sharedBytes` */
export function ranksMemory(ranks: number, processBytes: number, sharedBytes: number): RanksMemory {
  const rankBytes = processBytes + sumBytes(ranks)
  const machineBytes = ranks * (rankBytes - sharedBytes) + sharedBytes
  return { count: ranks, rank_bytes: rankBytes, shared_bytes: sharedBytes, machine_bytes: machineBytes }
}

/** Memory of the buffers in which gradients are summed, as in native/comm/sum.cpp. */
function sumBytes(ranks: number): number {
  const piece = Math.max(Math.floor(2 ** 20 / ranks), 4096)
  return ranks === 1 ? 0 : 8 * Math.floor(piece / 8) * (2 * ranks + 1)
}

export function ranksText(
  { count, rank_bytes: rank, shared_bytes: shared, machine_bytes: machine, layers }: RanksMemory,
  onCards: boolean,
): string {
  if (layers !== undefined)
    return [
      `${count} ranks share the layers; the plan above is that of the one with the highest peak. Processes, estimated:`,
      ...layers.map(
        ({ first, last, weight_bytes: weights, save_bytes: saved, bytes }, rank) =>
          `  rank ${rank}  layers ${first} to ${last}  about ${formatBytes(bytes)}, of which ${formatBytes(weights)} of weights` +
          (saved > 0 ? ` and ${formatBytes(saved)} for the whole adapter while it is saved` : ''),
      ),
    ].join('\n')
  if (onCards)
    return `${count} ranks, if each has a GPU of its own, with the plan above; their processes about ${formatBytes(machine)} of this machine's memory, ${formatBytes(rank)} each (estimated)`
  return `${count} ranks on this machine about ${formatBytes(machine)}: ${formatBytes(rank)} each, of which ${formatBytes(shared)} of weights are in memory once if they are cached; else about ${formatBytes(count * rank)} (estimated)`
}
