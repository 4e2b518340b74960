/** The JSON that programs may rely on, as schemas: what the tests hold the command line to. */
import { readFileSync } from 'node:fs'
import * as z from 'zod'

const bytes = z.int().nonnegative()
const count = z.int().nonnegative()
const step = z.int().positive()
const categories = [
  'weights',
  'quantization_constants',
  'adapters',
  'gradients',
  'optimizer',
  'activations',
  'kv_cache',
  'loss',
  'workspace',
]
export const rows = z.array(z.object({ category: z.enum(categories), bytes }))

export const trainEvent = z.discriminatedUnion('event', [
  z.object({ event: z.literal('plan'), peak_bytes: bytes, rows }),
  z.object({
    event: z.literal('step'),
    step,
    epoch: z.number().positive(),
    loss: z.number(),
    grad_norm: z.number(),
    learning_rate: z.number(),
    tokens: count,
    supervised_tokens: count,
    tokens_per_second: z.number().positive(),
  }),
  z.object({ event: z.literal('eval'), step, loss: z.number(), perplexity: z.number(), tokens: count }),
  z.object({ event: z.literal('checkpoint'), step, path: z.string() }),
  z.object({
    event: z.literal('done'),
    output_dir: z.string(),
    train_loss: z.number(),
    steps: step,
    peak_rss_bytes: bytes,
    tokens_per_second: z.number().positive(),
  }),
  z.object({
    event: z.literal('error'),
    code: z.string(),
    message: z.string(),
    details: z.record(z.string(), z.unknown()),
  }),
])

export type TrainEvent = z.infer<typeof trainEvent>
export type StepEvent = Extract<TrainEvent, { event: 'step' }>

export function parseEvents(lines: string): TrainEvent[] {
  return lines
    .split('\n')
    .filter(Boolean)
    .map((line) => trainEvent.parse(JSON.parse(line)))
}

/** The events of a kind. */
export function only<Kind extends TrainEvent['event']>(events: readonly TrainEvent[], kind: Kind) {
  return events.filter((event): event is Extract<TrainEvent, { event: Kind }> => event.event === kind)
}

/** What a step computed, without what depends on the clock. */
export function numbersOf(events: readonly TrainEvent[]) {
  return only(events, 'step').map(({ tokens_per_second, ...numbers }) => numbers)
}

export function readMetrics(path: string): TrainEvent[] {
  return parseEvents(readFileSync(path, 'utf8'))
}
