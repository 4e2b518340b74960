/**
 * Output of every verb with --json: the contract with other programs. The schemas also define the types of the
 * output, so a verb that prints anything else does not compile, and scripts/schemas.mjs publishes them as
 * schemas/*.json. Fields may be added; existing fields keep their names and meanings. Bytes are integers,
 * losses are nats per supervised token.
 */
import * as z from 'zod'
import { compareResults } from '../compare/results.js'
import { type JsonSchema, jsonSchemaOf } from '../core/schema.js'
import { recordedEvents, trainEvents } from '../train/records/event-schemas.js'
import { bench } from './schemas/bench.js'
import { cache } from './schemas/cache.js'
import { chat, generation } from './schemas/chat.js'
import { classified } from './schemas/classify.js'
import { compare } from './schemas/compare.js'
import { machine } from './schemas/doctor.js'
import { evaluation } from './schemas/eval.js'
import { exported, written } from './schemas/export.js'
import { errorLine } from './schemas/fields.js'
import { written as configWritten } from './schemas/init.js'
import { inspection } from './schemas/inspect.js'
import { plan } from './schemas/plan.js'
import { demoEvent, liveEvent, samplesEvent, timeEvent, watched } from './schemas/train.js'

const strategy = z.object({
  name: z.string(),
  paper: z.string(),
  peft_type: z.string().describe('peft_type of the files that it is saved as'),
  bases: z.array(z.string()).readonly().describe('Formats of the base that it runs on'),
  trainable: z.string().describe('Trained parameters, in a few words'),
  learning_rate: z.number().positive().describe('Default peak learning rate'),
})

/** Lines on stdout of a successful verb: its answer, or its events. */
export const printed = {
  init: configWritten,
  train: z.discriminatedUnion('event', [...trainEvents, liveEvent, timeEvent, samplesEvent]),
  watch: watched,
  demo: z.discriminatedUnion('event', [...trainEvents, demoEvent]),
  plan,
  eval: z.discriminatedUnion('metric', evaluation),
  generate: generation,
  classify: classified,
  chat: z.discriminatedUnion('event', chat),
  merge: written,
  export: exported,
  inspect: z.discriminatedUnion('kind', inspection),
  compare: z.discriminatedUnion('event', compare),
  bench,
  strategies: z.array(strategy),
  cache,
  doctor: machine,
}

/** A verb with an output schema; every verb must have one. */
export type Verb = keyof typeof printed

/** Output of a verb: its answer, or an event. */
export type Printed<Name extends Verb> = z.infer<(typeof printed)[Name]>

/** The last line on stdout of a verb that fails. */
export type ErrorLine = z.infer<typeof errorLine>

/** JSON Schemas by file name: for a line of stdout of each verb, the error line, metrics.jsonl, and results.json. */
export function outputSchemas(): Record<string, JsonSchema> {
  const verbs = Object.entries(printed).map(([verb, schema]) => [
    `${verb}.schema.json`,
    publish(`a line of lowrank ${verb} --json`, z.union([schema, errorLine])),
  ])
  return {
    ...Object.fromEntries(verbs),
    'results.schema.json': publish('results.json of lowrank compare', compareResults),
    'error.schema.json': publish('the last line of a lowrank verb that fails with --json', errorLine),
    'metrics.schema.json': publish(
      'a line of metrics.jsonl of a lowrank run',
      z.discriminatedUnion('event', [...trainEvents, ...recordedEvents]),
    ),
  }
}

/** Published like an input schema, which allows unknown fields. */
function publish(title: string, schema: z.ZodType): JsonSchema {
  const { $schema, ...rest } = jsonSchemaOf(schema)
  return { $schema, title, ...rest }
}
