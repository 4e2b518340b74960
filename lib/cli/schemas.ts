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
import { errorLine } from './schemas/fields.js'
import { printed } from './schemas/list.js'

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
