/** Graders of requests that are functions of text. They are checked whole before anything is graded. */
import * as z from 'zod'
import { checked, invalid } from '../errors.js'
import { type Formula, isName, parseFormula } from './formula.js'
import { SIMILARITIES } from './similarity.js'
import { parseTemplate, type Template, type Variable } from './templates.js'

/** Scores two texts. */
export interface TextGrader {
  type: 'string_check' | 'text_similarity'
  name: string
  input: Template
  reference: Template
  score: (input: string, reference: string) => number
}

/** Joins the scores of others. */
export interface MultiGrader {
  type: 'multi'
  name: string
  graders: Readonly<Record<string, TextGrader>>
  formula: Formula
}

export type Grader = TextGrader | MultiGrader

const MOST_GRADERS = 32
const MOST_FORMULA = 4096

const bool = (value: boolean) => Number(value)
const CHECKS = {
  eq: (input: string, reference: string) => bool(input === reference),
  ne: (input: string, reference: string) => bool(input !== reference),
  // The guides of OpenAI have this name.
  neq: (input: string, reference: string) => bool(input !== reference),
  like: (input: string, reference: string) => bool(input.includes(reference)),
  ilike: (input: string, reference: string) => bool(input.toLowerCase().includes(reference.toLowerCase())),
}

const text = z.string({ error: 'expected a text' })
const name = z.string({ error: 'expected a name' }).max(64).optional()
const texts = { name, input: text, reference: text }
const stringCheck = z.strictObject({
  ...{ type: z.literal('string_check'), ...texts },
  operation: z.enum(['eq', 'ne', 'neq', 'like', 'ilike'], { error: 'expected eq, ne, like or ilike' }),
})
const METRICS = Object.keys(SIMILARITIES) as [keyof typeof SIMILARITIES, ...(keyof typeof SIMILARITIES)[]]
const textSimilarity = z.strictObject({
  ...{ type: z.literal('text_similarity'), ...texts },
  evaluation_metric: z.enum(METRICS, { error: `expected one of ${METRICS.join(', ')}` }),
})
const multi = z.strictObject({
  ...{ type: z.literal('multi'), name },
  graders: z.union([z.record(z.string(), z.unknown()), z.array(z.unknown())], {
    error: 'expected an object of graders by their names',
  }),
  calculate_output: z.string({ error: 'expected a formula' }).max(MOST_FORMULA),
})

/** Types and metrics that need more than the texts, each with what to do instead. */
const REFUSED: Readonly<Record<string, string>> = {
  python: 'no code of graders is run; train with functions of your own in reward_functions by lowrank train',
  score_model: 'no model grades here; check the text of the answer',
  label_model: 'no model grades here; check the text of the answer',
  endpoint: 'nothing is sent to others; check the text of the answer',
  cosine: 'it needs embeddings, which are not made here; use fuzzy_match or rouge_l',
  meteor: 'it needs the words of WordNet; use bleu, gleu or rouge_l',
}

/**
 * The grader of a request.
 * @param at its place in the request
 * @throws {ApiError} that names the first mistake by its path
 */
export function graderOf(value: unknown, at: readonly PropertyKey[]): Grader {
  const type = typeOf(value, at)
  if (type !== 'multi') return textGrader(value, at)
  const { name: own, graders, calculate_output: formula } = checked(multi, value, at)
  const given = Object.entries(byName(graders))
  const path = [...at, 'graders']
  if (given.length === 0 || given.length > MOST_GRADERS)
    throw invalid(path.join('.'), `Expected 1 to ${MOST_GRADERS} graders by their names.`)
  const read = given.map(([key, one]) => {
    if (!isName(key))
      throw invalid(
        path.join('.'),
        `A grader is named ${JSON.stringify(key)}: a formula takes names of letters, digits and _ that are not those of its functions.`,
      )
    return [key, textGrader(one, [...path, key])] as const
  })
  const names = read.map(([key]) => key)
  return {
    ...{ type, name: own ?? type, graders: Object.fromEntries(read) },
    formula: said([...at, 'calculate_output'], () => parseFormula(formula, names)),
  }
}

function textGrader(value: unknown, at: readonly PropertyKey[]): TextGrader {
  const type = typeOf(value, at)
  if (type === 'string_check') {
    const { operation, ...given } = checked(stringCheck, value, at)
    return { ...about(given, at), type, score: CHECKS[operation] }
  }
  if (type !== 'text_similarity')
    throw invalid(
      [...at, 'type'].join('.'),
      `Invalid value for '${[...at, 'type'].join('.')}': expected string_check, text_similarity${at.includes('graders') ? '' : ' or multi'}; got ${JSON.stringify(type ?? null)}.`,
    )
  const { evaluation_metric: metric } = value as { evaluation_metric?: unknown }
  if (typeof metric === 'string') refuse(metric, [...at, 'evaluation_metric'])
  const given = checked(textSimilarity, value, at)
  return { ...about(given, at), type, score: SIMILARITIES[given.evaluation_metric] }
}

interface GivenTexts {
  type: string
  name?: string | undefined
  input: string
  reference: string
}

function about({ name: own, type, input, reference }: GivenTexts, at: readonly PropertyKey[]) {
  return {
    name: own ?? type,
    input: said([...at, 'input'], () => parseTemplate(input)),
    reference: said([...at, 'reference'], () => parseTemplate(reference)),
  }
}

/** The type of a grader, if this server may have such ones. */
function typeOf(value: unknown, at: readonly PropertyKey[]): unknown {
  if (typeof value !== 'object' || value === null || Array.isArray(value))
    throw invalid(
      at.join('.'),
      `Missing required parameter: '${at.join('.')}', a grader.`,
      'missing_required_parameter',
    )
  const { type } = value as { type?: unknown }
  if (typeof type === 'string') refuse(type, [...at, 'type'])
  return type
}

function refuse(word: string, at: readonly PropertyKey[]): void {
  if (!Object.hasOwn(REFUSED, word)) return
  const param = at.join('.')
  throw invalid(param, `'${param}' cannot be '${word}' here: ${REFUSED[word]}.`, 'unsupported_parameter')
}

/** Graders by their names: the guides have an object, and types of clients one grader, or a list. */
function byName(graders: Record<string, unknown> | unknown[]): Record<string, unknown> {
  if (!Array.isArray(graders) && typeof graders.type !== 'string') return graders
  return Object.fromEntries(
    [graders].flat().map((one, index) => {
      const { name: own } = (one ?? {}) as { name?: unknown }
      return [typeof own === 'string' ? own : `grader_${index + 1}`, one]
    }),
  )
}

/** Turns the error of a parser into an error of the request. */
function said<T>(at: readonly PropertyKey[], parse: () => T): T {
  try {
    return parse()
  } catch (error) {
    throw invalid(at.join('.'), `Invalid value for '${at.join('.')}': ${(error as Error).message}.`)
  }
}

/** The variables that rows must have values for. */
export function itemVariables(grader: Grader): Variable[] {
  const all = grader.type === 'multi' ? Object.values(grader.graders) : [grader]
  return all
    .flatMap(({ input, reference }) => [...input, ...reference])
    .filter((part): part is Variable => typeof part !== 'string' && part.of === 'item')
}
