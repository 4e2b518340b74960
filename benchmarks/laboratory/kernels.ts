/** Measures the kernels of a model's training step against the peak of the CPU. */
import { type Graph, nodesOf } from '../../lib/graph/graph.js'
import {
  addon,
  type KernelSubject,
  type KernelTimes,
  type Precision,
  type StorageFormat,
} from '../../lib/native/addon.js'
import { translatedAsync } from '../../lib/native/errors.js'
import { settled } from '../../lib/native/handles.js'
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

/** A kernel of the step, and how often it runs. */
export interface KernelUse {
  subject: KernelSubject
  count: number
}

/** Measured times of one kernel. */
export interface KernelRate extends KernelUse {
  /** As in `KernelTimes`. */
  name: string
  seconds: number
  operationsPerSecond: number
  /** Fraction of the arithmetic peak measured between its rounds; null if the level has no peak measurement. */
  shareOfPeak: number | null
  /** Bytes that the head's first call made resident. */
  extraBytes?: number
}

export interface KernelControl {
  signal?: AbortSignal
  onKernel?(what: string, done: number, total: number): void
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

/** Times the kernels one by one. Aborting rejects with the signal's reason. */
export async function measureKernels(
  uses: readonly KernelUse[],
  { precision, rounds }: { precision: Precision; rounds: number },
  { signal, onKernel }: KernelControl = {},
): Promise<KernelRate[]> {
  const rates: KernelRate[] = []
  for (const [done, use] of uses.entries()) {
    onKernel?.(describeKernel(use.subject), done, uses.length)
    const { kernels, peak, extraBytes } = await translatedAsync(() =>
      settled<KernelTimes>(() => addon().timeKernels({ ...use.subject, precision, rounds }), signal),
    )
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
