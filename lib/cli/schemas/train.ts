/** Events of `lowrank train --json`. */
import * as z from 'zod'
import { classifiedRows, sampleRows, samplesHeldOut, trainEvents } from '../../train/records/event-schemas.js'
import { time } from './fields.js'

const timeEvent = time
  .extend({ event: z.literal('time') })
  .describe('Estimated time of the steps; after `plan`, if it is known')

const liveEvent = z
  .object({ event: z.literal('live'), url: z.string().describe('With its token') })
  .describe('With --live: the page of the run is served here; comes first')

const samplesEvent = z
  .object({
    event: z.literal('samples'),
    held_out: samplesHeldOut,
    rows: sampleRows,
    classified: classifiedRows.optional(),
    command: z.string().nullable().describe('Command that repeats one of the tuned answers'),
  })
  .describe('Rows answered after the run, by default three; comes before done')

export const printed = z.discriminatedUnion('event', [...trainEvents, liveEvent, timeEvent, samplesEvent])
