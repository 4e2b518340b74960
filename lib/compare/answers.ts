/**
 * Compares the answers of several models to the same rows: how many are right, word for word and after a normalization,
 * and McNemar's exact test for every pair.
 */
import { mean } from '../core/mean.js'
import { isRecord } from '../core/schema-shape.js'
import { isRight, splitReasoning, wordF1 } from '../train/measures/answer-scores.js'
import { mcnemar, wilson } from './statistics/index.js'

/** A row with the answer of each model; null where a model gave none. */
export interface AnsweredRow {
  expected: string
  answers: readonly (string | null)[]
}

/** Word for word, apart from white space around an answer and reasoning before it; or as `normalizedAnswer` says. */
export type Match = 'exact' | 'normalized'

/** Right answers, and the 95 % interval of their share by Wilson. */
export interface RightShare {
  right: number
  interval: [number, number]
}

/** How well a model answers. */
export interface AnswerScore extends Record<Match, RightShare> {
  /** Rows that it answered. */
  answered: number
  /** Mean F1 over words, from 0 to 1. */
  f1: number
}

/** Rows that only one of two models answers right, and McNemar's exact p. */
export interface Discordant {
  onlyFirst: number
  onlySecond: number
  p: number
}

/** Two models on the rows that both answered. */
export interface AnswerPair extends Record<Match, Discordant> {
  /** Indices of the models. */
  first: number
  second: number
  rows: number
}

export interface ComparedAnswers {
  scores: AnswerScore[]
  pairs: AnswerPair[]
  /** By row and model; null where a model gave no answer. */
  right: Record<Match, (boolean | null)[][]>
}

/**
 * @param rows with as many answers each as there are models
 * @param models number of models
 */
export function compareAnswers(rows: readonly AnsweredRow[], models: number): ComparedAnswers {
  const judged = (match: Match) =>
    rows.map(({ expected, answers }) =>
      answers.map((answer) => (answer === null ? null : isMatch(match, answer, expected))),
    )
  const right = { exact: judged('exact'), normalized: judged('normalized') }
  const each = Array.from({ length: models }, (_, model) => model)
  const pairs = each.flatMap((first) => each.slice(first + 1).map((second) => pairOf(right, first, second)))
  return { scores: each.map((model) => scoreOf(rows, right, model)), pairs, right }
}

function isMatch(match: Match, answer: string, expected: string): boolean {
  if (match === 'exact') return isRight(answer, expected)
  return normalizedAnswer(answer) === normalizedAnswer(expected)
}

function scoreOf(rows: readonly AnsweredRow[], right: ComparedAnswers['right'], model: number): AnswerScore {
  const given = rows.flatMap(({ expected, answers }) => {
    const prediction = answers[model]
    if (typeof prediction !== 'string') return []
    const [given, wanted] = [prediction, expected].map((text) => splitReasoning(text).answer)
    return [wordF1({ prediction: given as string, expected: wanted as string })]
  })
  const share = (match: Match): RightShare => {
    const hits = right[match].filter((row) => row[model] === true).length
    return { right: hits, interval: wilson(hits, given.length) }
  }
  return {
    answered: given.length,
    ...{ exact: share('exact'), normalized: share('normalized') },
    f1: given.length === 0 ? 0 : mean(given),
  }
}

function pairOf(right: ComparedAnswers['right'], first: number, second: number): AnswerPair {
  const both = right.exact.filter((row) => row[first] !== null && row[second] !== null).length
  const discordant = (match: Match): Discordant => {
    const known = right[match].filter((row) => row[first] !== null && row[second] !== null)
    const onlyFirst = known.filter((row) => row[first] && !row[second]).length
    const onlySecond = known.filter((row) => row[second] && !row[first]).length
    return { onlyFirst, onlySecond, p: mcnemar(onlyFirst, onlySecond) }
  }
  return { first, second, rows: both, exact: discordant('exact'), normalized: discordant('normalized') }
}

/**
 * An answer without what is often of no account. JSON, also in a fence of Markdown, is compared by its value; other text
 * in NFKC, in lower case, with single spaces, and without punctuation at its end. Reasoning is left out.
 */
export function normalizedAnswer(text: string): string {
  const answer = splitReasoning(text).answer.trim()
  const [, fenced = answer] = /^```(?:json)?\s*\n([\s\S]*?)\n?```$/.exec(answer) ?? []
  return (
    jsonValue(fenced) ??
    answer
      .normalize('NFKC')
      .toLowerCase()
      .replace(/\s+/g, ' ')
      .replace(/[\s.!?。]+$/u, '')
  )
}

/** The canonical JSON of an object or a list; undefined for other text. */
function jsonValue(text: string): string | undefined {
  if (!/^\s*[[{]/.test(text)) return undefined
  try {
    return canonicalJson(JSON.parse(text))
  } catch {
    return undefined
  }
}

/** JSON with sorted keys, so that equal values have equal text. */
export function canonicalJson(value: unknown): string {
  return JSON.stringify(value, (_, one: unknown) =>
    isRecord(one) ? Object.fromEntries(Object.entries(one).sort(([a], [b]) => (a < b ? -1 : 1))) : one,
  )
}
