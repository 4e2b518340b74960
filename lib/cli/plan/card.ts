/** The plan of a run on an NVIDIA card, which need not be present: its free memory, and the least cost of a step. */
import { formatBytes } from '../../core/bytes.js'
import type { StepCounts } from '../../native/addon.js'
import { busBytes, type Card, leastSeconds, leastWork, ownBytes } from '../../planning/cards.js'
import type { MemoryReport } from '../../planning/memory-report.js'
import { digits, formatMany } from '../format.js'
import type { Printed } from '../schemas.js'

type CardPlan = NonNullable<Printed<'plan'>['card']>

/** @param accumulation micro-batches per step */
export function cardData(
  card: Card,
  memory: MemoryReport,
  counts: StepCounts,
  accumulation: number,
): CardPlan {
  const { operations, bytes } = leastWork(counts, accumulation)
  const bus = busBytes(memory, accumulation)
  return {
    name: card.name,
    memory_bytes: card.memoryBytes,
    own_bytes: Math.round(ownBytes(card)),
    fits: memory.peakBytes <= card.memoryBytes - ownBytes(card),
    least_operations: operations,
    least_bytes: bytes,
    bus_bytes: bus,
    least_seconds: card.rates && leastSeconds(counts, accumulation, card.rates, bus),
  }
}

/** A sentence about the card's memory, and whether the run fits. */
export function roomLine({ label, memoryBytes }: Card, { own_bytes: own, fits }: CardPlan): string {
  const has = `The ${label} has ${formatBytes(memoryBytes)}, of which about ${formatBytes(own)} are the driver's and what fragments.`
  return fits
    ? `${has} The run fits.`
    : `${has} The run does not fit; a smaller per_device_train_batch_size or max_seq_length takes less, and --fit searches for settings.`
}

/** The least work of a step, and its duration at the card's published rates. */
export function workLine({ label, rates }: Card, plan: CardPlan): string {
  const over = plan.bus_bytes > 0 ? `, and ${formatBytes(plan.bus_bytes)} over the bus,` : ''
  const work = `work at least ${formatMany(plan.least_operations)} operations and ${formatBytes(plan.least_bytes)} moved${over} per step`
  if (rates === null || plan.least_seconds === null) return work
  const published = `${formatMany(rates.operationsPerSecond)} operations and ${digits(rates.bytesPerSecond / 1e9)} GB per second${plan.bus_bytes > 0 ? `, ${digits(rates.busBytesPerSecond / 1e9)} GB over the bus` : ''}`
  return `${work}: no less than ${digits(1e3 * plan.least_seconds)} ms at the published rates of the ${label} (${published}). No run has been timed on one.`
}
