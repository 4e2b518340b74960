/**
 * Output of every verb with --json: the contract with programs. These schemas are also the types of the output, so
 * that a verb which prints something else does not compile, and scripts/schemas.mjs publishes them as schemas/*.json.
 * Fields may be added; those that are here stay, with their meaning. Bytes are integers, losses nats per supervised
 * token.
 */
import * as z from 'zod'
import { compareResults } from '../compare/results.js'
import { type JsonSchema, jsonSchemaOf } from '../core/schema.js'
import { recordedEvents, trainEvents } from '../train/metrics.js'
import { bench } from './schemas/bench.js'
import { cache } from './schemas/cache.js'
import { chat, generation } from './schemas/chat.js'
import { compare } from './schemas/compare.js'
import { machine } from './schemas/doctor.js'
import { evaluation } from './schemas/eval.js'
import { exported, written } from './schemas/export.js'
import { errorLine } from './schemas/fields.js'
import { canaryFigure, memoryFigure, strategyFigure, utilityFigure } from './schemas/figures.js'
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

/** Lines of stdout of a successful verb: its answer, or one of its events. */
export const printed = {
  train: z.discriminatedUnion('event', [...trainEvents, liveEvent, timeEvent, samplesEvent]),
  watch: watched,
  demo: z.discriminatedUnion('event', [...trainEvents, demoEvent]),
  plan,
  eval: z.discriminatedUnion('metric', evaluation),
  generate: generation,
  chat: z.discriminatedUnion('event', chat),
  merge: written,
  export: exported,
  inspect: z.discriminatedUnion('kind', inspection),
  figures: z.discriminatedUnion('name', [utilityFigure, canaryFigure, memoryFigure, strategyFigure]),
  compare: z.discriminatedUnion('event', compare),
  bench,
  strategies: z.array(strategy),
  cache,
  doctor: machine,
}

/** A verb that has a schema of what it prints; every verb must. */
export type Verb = keyof typeof printed

/** Output of a verb: its one answer, or an event of its stream. */
export type Printed<Name extends Verb> = z.infer<(typeof printed)[Name]>

/** The line that ends stdout when any verb fails. */
export type ErrorLine = z.infer<typeof errorLine>

/**
 * JSON Schemas by file name: of a line of stdout of each verb, of the line that tells an error, of metrics.jsonl, and of
 * results.json.
 */
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

/** Written as of input, a schema says nothing of fields that it does not know: they are fine. */
function publish(title: string, schema: z.ZodType): JsonSchema {
  const { $schema, ...rest } = jsonSchemaOf(schema)
  return { $schema, title, ...rest }
}
