/**
 * NVIDIA GPUs by name: the properties needed to plan for them, and their published rates, which give a lower bound on
 * step time.
 */
import { formatBytes } from '../core/bytes.js'
import { ConfigError } from '../core/errors.js'
import { nearest } from '../core/nearest.js'
import { parseBytes } from '../core/schema.js'
import type { CardSizes, CudaCard, StepCounts, WorkCounts } from '../native/addon.js'
import type { MemoryReport } from './memory-report.js'

const GIB = 2 ** 30
const KIB = 2 ** 10

export interface Card extends CardSizes {
  /** As in `cuda:NAME`. */
  name: string
  /** Name as written by the vendor. */
  label: string
  memoryBytes: number
  /** Published rates; null for a card given only by its memory size. */
  rates: CardRates | null
}

export interface CardRates {
  /** Dense bf16 matrix products with fp32 accumulation, in FLOP/s. */
  operationsPerSecond: number
  /** Bandwidth of the card's memory. */
  bytesPerSecond: number
  /** Bus bandwidth, in one direction. */
  busBytesPerSecond: number
}

/** Shared memory by compute capability (CUDA C++ Programming Guide, technical specifications). */
const SHARED_KIB: Readonly<Record<number, number>> = { 80: 163, 86: 99, 89: 99, 90: 227, 100: 227, 120: 99 }

/** Bandwidth of 16 PCI Express lanes in one direction, in GB/s, by generation. */
const PCIE: Readonly<Record<4 | 5, number>> = { 4: 31.5, 5: 63 }

const row = (
  label: string,
  sm: number,
  multiprocessors: number,
  gib: number,
  teraflops: number,
  gigabytes: number,
  bus: number,
): Card => ({
  name: label.toLowerCase().replaceAll(' ', '-'),
  label,
  sm,
  multiprocessors,
  sharedBytes: (SHARED_KIB[sm] as number) * KIB,
  memoryBytes: gib * GIB,
  rates: {
    operationsPerSecond: teraflops * 1e12,
    bytesPerSecond: gigabytes * 1e9,
    busBytesPerSecond: bus * 1e9,
  },
})

/** From NVIDIA's data sheets and architecture white papers, without the sparsity factor that they often include. */
export const CARDS: readonly Card[] = [
  row('RTX 3060', 86, 28, 12, 25.4, 360, PCIE[4]),
  row('RTX 3090', 86, 82, 24, 71, 936, PCIE[4]),
  row('RTX 4060 Ti', 89, 34, 16, 44.1, 288, PCIE[4] / 2),
  row('RTX 4090', 89, 128, 24, 165.2, 1008, PCIE[4]),
  row('RTX 5090', 120, 170, 32, 209.5, 1792, PCIE[5]),
  row('A10', 86, 72, 24, 125, 600, PCIE[4]),
  row('A100', 80, 108, 80, 312, 2039, PCIE[4]),
  row('L4', 89, 58, 24, 121, 300, PCIE[4]),
  row('L40S', 89, 142, 48, 362, 864, PCIE[4]),
  row('H100', 90, 132, 80, 989, 3350, PCIE[5]),
  row('H200', 90, 132, 141, 989, 4800, PCIE[5]),
  row('B200', 100, 148, 180, 2250, 8000, PCIE[5]),
]

export function sizesOf({ sm, multiprocessors, sharedBytes }: CardSizes): CardSizes {
  return { sm, multiprocessors, sharedBytes }
}

/** GPU memory unavailable to runs: the driver's and the context's own, and fragmentation. */
export function ownBytes({ memoryBytes }: Pick<Card, 'memoryBytes'>): number {
  return 512 * 2 ** 20 + 0.05 * memoryBytes
}

/**
 * Looks up a card by name, or by memory size: `rtx-4090`, `24GB`. The latter assumes the multiprocessor count of an RTX
 * 4090, the largest of any 24 GB card, so that the planned workspace is sufficient.
 * @throws {ConfigError} for an unknown name, listing the known ones
 */
export function cardNamed(name: string): Card {
  const bytes = parseBytes(name.replace(/gb$/i, 'GiB'))
  if (bytes !== undefined)
    return {
      ...row(`${formatBytes(bytes)} card`, 89, 128, bytes / GIB, 0, 0, 0),
      ...{ name: name.toLowerCase(), rates: null },
    }
  const names = CARDS.map((card) => card.name)
  const found = CARDS.find((card) => card.name === name.toLowerCase())
  if (found !== undefined) return found
  const near = nearest(name, names)
  throw new ConfigError(
    `card '${name}' is unknown${near === undefined ? '' : `; did you mean ${near}?`}; expected one of ${names.join(', ')}, or an amount of memory such as 24GB.`,
    { card: name, known: names },
  )
}

/** A GPU in this machine: its properties from the driver, with published rates if the model is known. */
export function cardHere({ number, name, memoryBytes, ...found }: CudaCard): Card {
  const known = CARDS.filter(({ label }) => name.includes(label))
  const nearest = known.sort((a, b) => b.label.length - a.label.length)[0]
  const rates = nearest !== undefined && nearest.sm === found.sm ? nearest.rates : null
  return { name: `${number}`, label: name, ...sizesOf(found), memoryBytes, rates }
}

/** Minimum work of an optimizer step, which any implementation of these kernels must do. */
export interface LeastWork {
  /** Floating-point operations of matrix products. */
  operations: number
  /** Bytes moved if each kernel reads and writes every operand once. */
  bytes: number
}

/** @param accumulation micro-batches per step */
export function leastWork(counts: StepCounts, accumulation: number): LeastWork {
  const work = (of: WorkCounts | undefined, times: number): LeastWork => ({
    operations: times * sum(of, ({ multiplyAdds }) => 2 * multiplyAdds),
    bytes: times * sum(of, ({ bytesMoved }) => bytesMoved),
  })
  const [batches, update] = [work(counts, accumulation), work(counts.update, 1)]
  return { operations: batches.operations + update.operations, bytes: batches.bytes + update.bytes }
}

/** Bytes that an optimizer step transfers over the bus: paged weights, activations, and state kept in host memory. */
export function busBytes(
  {
    pagedReadBytes,
    offloadedBytes,
    pagedStateBytes,
  }: Pick<MemoryReport, 'pagedReadBytes' | 'offloadedBytes' | 'pagedStateBytes'>,
  accumulation: number,
): number {
  return accumulation * (pagedReadBytes + offloadedBytes) + pagedStateBytes
}

/**
 * Lower bound on the time of an optimizer step at a card's published rates: for each kind of kernel the longer of its
 * compute and memory times, and at least the bus time, since copies overlap with kernels. No real run reaches these
 * rates.
 * @param bus see `busBytes`
 */
export function leastSeconds(
  counts: StepCounts,
  accumulation: number,
  { operationsPerSecond, bytesPerSecond, busBytesPerSecond }: CardRates,
  bus = 0,
): number {
  const seconds = (of: WorkCounts | undefined) =>
    sum(of, ({ multiplyAdds, bytesMoved }) =>
      Math.max((2 * multiplyAdds) / operationsPerSecond, bytesMoved / bytesPerSecond),
    )
  return Math.max(accumulation * seconds(counts) + seconds(counts.update), bus / busBytesPerSecond)
}

function sum(of: WorkCounts | undefined, value: (kernel: WorkCounts['kernels'][number]) => number): number {
  return (of?.kernels ?? []).reduce((total, kernel) => total + value(kernel), 0)
}
