/** The events of runs, read back. */
import { readFileSync } from 'node:fs'
import type { ErrorLine, Printed } from '../../lib/cli/schemas.js'
import { checkLine } from '../lib/cli/contract.js'

type TrainEvent = Printed<'train'> | ErrorLine

/** @param schema what the lines are held to */
export function parseEvents(lines: string, schema: 'train' | 'metrics' = 'train'): TrainEvent[] {
  return lines
    .split('\n')
    .filter(Boolean)
    .map((line) => {
      const event = JSON.parse(line) as TrainEvent
      checkLine(schema, event)
      return event
    })
}

/** The events of a kind. */
export function only<Kind extends TrainEvent['event']>(events: readonly TrainEvent[], kind: Kind) {
  return events.filter((event): event is Extract<TrainEvent, { event: Kind }> => event.event === kind)
}

/** Results of a step, without those that depend on the clock. */
export function numbersOf(events: readonly TrainEvent[]) {
  return only(events, 'step').map(({ time, tokens_per_second, seconds_left, ...numbers }) => numbers)
}

export function readMetrics(path: string): TrainEvent[] {
  return parseEvents(readFileSync(path, 'utf8'), 'metrics')
}
