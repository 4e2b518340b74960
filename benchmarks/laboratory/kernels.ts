/**
 * Measures the kernels of a model's training step against the peak of the CPU, each by a process of benchmarks/kernels.
 */
import { execFile } from 'node:child_process'
import { join, resolve } from 'node:path'
import { promisify } from 'node:util'
import { type Graph, nodesOf } from '../../lib/graph/graph.js'
import type { Precision, StorageFormat } from '../../lib/native/lists.js'
import type { ModelShape } from '../../lib/planning/plan.js'
import { storageFormats } from '../../lib/weights/weights.js'

export interface KernelSettings {
  /** Rank of the adapter at each linear layer. */
  rank: number
  perDeviceTrainBatchSize: number
  maxSeqLength: number
  /** Storage format of the linear layers. */
  format: StorageFormat
  precision: Precision
}

/** Kernels to time, on made-up inputs. */
export type KernelSubject =
  /** `forward`, `input_gradient`, and `adapter_gradient` of a linear layer [out, in] with a low-rank term. */
  | { kind: 'linear'; tokens: number; out: number; in: number; rank: number; format: StorageFormat }
  /** `forward` and `backward` of sequences of equal length; `window` as in the graph's node. */
  | {
      kind: 'attention'
      sequences: number
      length: number
      heads: number
      kvHeads: number
      headDim: number
      window?: number
    }
  /** `forward_backward`: head, loss, and the gradient at the head's input. */
  | { kind: 'head_loss'; tokens: number; vocab: number; hidden: number; format: StorageFormat }

/** Output of the program. */
interface KernelTimes {
  /** Operations per call, counting a multiply-add as two, and its least seconds. */
  kernels: { name: string; operations: number; seconds: number }[]
  peak: number | null
  extraBytes?: number
}

/** A kernel of the step, and how often it runs. */
export interface KernelUse {
  subject: KernelSubject
  count: number
}

/** Measured times of one kernel. */
export interface KernelRate extends KernelUse {
  name: string
  seconds: number
  operationsPerSecond: number
  /** Fraction of the arithmetic peak measured between its rounds; null if the level has no peak measurement. */
  shareOfPeak: number | null
  /** Bytes that the head's first call made resident. */
  extraBytes?: number
}

export interface KernelRounds {
  precision: Precision
  /** In every round each kernel runs for a few milliseconds; the best round counts. */
  rounds: number
  /** Level of the kernels; default: the best of this machine. */
  isa?: string
  threads?: number
}

/** The kernels of a training step, each shape once: linear layers, attention, and the head with the loss. */
export function kernelsOf({ graph, dtypeOf }: ModelShape, settings: KernelSettings): KernelUse[] {
  const { rank, perDeviceTrainBatchSize: sequences, maxSeqLength: length, format, precision } = settings
  const tokens = sequences * length
  const weights = new Map(graph.weights.map((weight) => [weight.name, weight]))
  const shape = (name: string) => weights.get(name) as Graph['weights'][number]
  const linears = nodesOf(graph, 'linear').map(({ weight }): KernelSubject => {
    const { rows, cols } = shape(weight)
    return { kind: 'linear', tokens, out: rows, in: cols, rank, format }
  })
  const attention = nodesOf(graph, 'attention').map(
    ({ heads, kvHeads, headDim, window }): KernelSubject => ({
      ...{ kind: 'attention', sequences, length, heads, kvHeads, headDim },
      ...(window === undefined ? {} : { window }),
    }),
  )
  const plain = storageFormats(graph, dtypeOf, { quantization: { type: 'none' }, precision, exact: false })
  const heads = nodesOf(graph, 'lm_head').map(({ weight }): KernelSubject => {
    const { rows, cols } = shape(weight)
    return { kind: 'head_loss', tokens, vocab: rows, hidden: cols, format: plain[weight] as StorageFormat }
  })
  const uses = new Map<string, KernelUse>()
  for (const subject of [...linears, ...attention, ...heads]) {
    const key = JSON.stringify(subject)
    const use = uses.get(key)
    if (use === undefined) uses.set(key, { subject, count: 1 })
    else use.count++
  }
  return [...uses.values()]
}

/** `linear 576 x 1536`, `attention 4 x 512, 9/3 heads of 64`, `head and loss 49152 x 576`. */
export function describeKernel(subject: KernelSubject): string {
  if (subject.kind === 'linear') return `linear ${subject.out} x ${subject.in}`
  if (subject.kind === 'head_loss') return `head and loss ${subject.vocab} x ${subject.hidden}`
  const { sequences, length, heads, kvHeads, headDim, window } = subject
  const near = window === undefined ? '' : `, window ${window}`
  return `attention ${sequences} x ${length}, ${heads}/${kvHeads} heads of ${headDim}${near}`
}

const root = resolve(import.meta.dirname, '..', '..')
const output = promisify(execFile)

let program: Promise<string> | undefined

/** Path of the program that times kernels, which is built when it is first asked for. */
export function kernelStudy(): Promise<string> {
  program ??= output(process.execPath, [join(root, 'scripts', 'native.mjs'), 'kernel-study']).then(
    ({ stdout }) => stdout.trim().split('\n').at(-1) as string,
  )
  return program
}

/** Times the kernels one by one. Rejects with the program's words for sizes that a format does not support. */
export async function measureKernels(
  uses: readonly KernelUse[],
  { isa, ...rounds }: KernelRounds,
  onKernel?: (what: string, done: number, total: number) => void,
): Promise<KernelRate[]> {
  const path = await kernelStudy()
  const env = { ...process.env, ...(isa !== undefined && { LOWRANK_ISA: isa }) }
  const rates: KernelRate[] = []
  for (const [done, use] of uses.entries()) {
    onKernel?.(describeKernel(use.subject), done, uses.length)
    const flags = Object.entries({ ...use.subject, ...rounds }).flatMap(([name, value]) => [
      `--${name}`,
      String(value),
    ])
    const { stdout } = await output(path, flags, { env })
    const { kernels, peak, extraBytes }: KernelTimes = JSON.parse(stdout)
    for (const { name, operations, seconds } of kernels) {
      const operationsPerSecond = operations / seconds
      rates.push({
        ...{ ...use, name, seconds, operationsPerSecond },
        shareOfPeak: peak === null ? null : operationsPerSecond / peak,
        ...(extraBytes === undefined ? {} : { extraBytes }),
      })
    }
  }
  return rates
}
