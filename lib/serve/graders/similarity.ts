/**
 * Likenesses of two texts, from 0 to 1, as Python packages compute them: `fuzz.ratio` of rapidfuzz, `sentence_bleu` of
 * sacrebleu, `sentence_gleu` of nltk over words between white space, and F-measures of rouge-score without stemming.
 */
import { PYTHON_SPACE } from '../../tokenizer/python-space.js'

const WORDS = new RegExp(`[^${PYTHON_SPACE}]+`, 'g')
const MOST_GRAMS = 4

/** Likenesses by their names. @param input the text that is graded */
export const SIMILARITIES = {
  fuzzy_match: fuzzyMatch,
  bleu,
  gleu,
  rouge_1: rouge(1),
  rouge_2: rouge(2),
  rouge_3: rouge(3),
  rouge_4: rouge(4),
  rouge_5: rouge(5),
  rouge_l: rougeL,
} satisfies Record<string, (input: string, reference: string) => number>

function fuzzyMatch(input: string, reference: string): number {
  const [one, other] = [[...input], [...reference]]
  const all = one.length + other.length
  return all === 0 ? 1 : 1 - (all - 2 * commonLength(one, other)) / all
}

function bleu(input: string, reference: string): number {
  const [said, wanted] = [bleuWords(input), bleuWords(reference)]
  let smoothing = 1
  let found = 0
  const logs: number[] = []
  for (let n = 1; n <= MOST_GRAMS && said.length >= n; n++) {
    const grams = said.length - n + 1
    const shared = overlap(gramsOf(said, n), gramsOf(wanted, n))
    found += shared
    // Orders that nothing is shared of count less and less.
    if (shared === 0) smoothing *= 2
    logs.push(Math.log((shared === 0 ? 1 / smoothing : shared) / grams))
  }
  if (found === 0) return 0
  const brevity = said.length < wanted.length ? Math.exp(1 - wanted.length / said.length) : 1
  return brevity * Math.exp(logs.reduce((sum, log) => sum + log, 0) / logs.length)
}

/** The tokens of mteval-v13a. */
function bleuWords(text: string): string[] {
  const last = [...text.matchAll(WORDS)].at(-1)
  const joined = text
    .slice(0, last === undefined ? 0 : last.index + last[0].length)
    .replaceAll('<skipped>', '')
    .replaceAll('-\n', '')
    .replaceAll('\n', ' ')
    .replaceAll('&quot;', '"')
    .replaceAll('&amp;', '&')
    .replaceAll('&lt;', '<')
    .replaceAll('&gt;', '>')
  return wordsOf(
    ` ${joined} `
      .replace(/([{-~[-` -&(-+:-@/])/g, ' $1 ')
      .replace(/([^0-9])([.,])/g, '$1 $2 ')
      .replace(/([.,])([^0-9])/g, ' $1 $2')
      .replace(/([0-9])(-)/g, '$1 $2 '),
  )
}

function gleu(input: string, reference: string): number {
  const grams = (text: string) => {
    const all = wordsOf(text)
    return [1, 2, 3, 4].flatMap((n) => gramsOf(all, n))
  }
  const [said, wanted] = [grams(input), grams(reference)]
  const most = Math.max(said.length, wanted.length)
  return most === 0 ? 0 : overlap(said, wanted) / most
}

function rouge(n: number): (input: string, reference: string) => number {
  return (input, reference) => {
    const [said, wanted] = [gramsOf(rougeWords(input), n), gramsOf(rougeWords(reference), n)]
    return fMeasure(overlap(said, wanted), said.length, wanted.length)
  }
}

function rougeL(input: string, reference: string): number {
  const [said, wanted] = [rougeWords(input), rougeWords(reference)]
  return fMeasure(commonLength(said, wanted), said.length, wanted.length)
}

function rougeWords(text: string): string[] {
  return text.toLowerCase().match(/[a-z0-9]+/g) ?? []
}

function wordsOf(text: string): string[] {
  return text.match(WORDS) ?? []
}

function fMeasure(shared: number, said: number, wanted: number): number {
  const [precision, recall] = [shared / Math.max(said, 1), shared / Math.max(wanted, 1)]
  return shared === 0 ? 0 : (2 * precision * recall) / (precision + recall)
}

/** Runs of `n` words, which have no spaces. */
function gramsOf(all: readonly string[], n: number): string[] {
  return Array.from({ length: Math.max(0, all.length - n + 1) }, (_, at) => all.slice(at, at + n).join(' '))
}

/** Number of entries that both lists have, each as often as in both. */
function overlap(one: readonly string[], other: readonly string[]): number {
  const left = new Map<string, number>()
  for (const entry of other) left.set(entry, (left.get(entry) ?? 0) + 1)
  return one.filter((entry) => {
    const count = left.get(entry) ?? 0
    left.set(entry, count - 1)
    return count > 0
  }).length
}

/** Length of the longest common subsequence, by bits: Hyyrö 2004, Bit-parallel LCS-length computation revisited. */
function commonLength(one: readonly string[], other: readonly string[]): number {
  const places = new Map<string, bigint>()
  for (const [at, entry] of one.entries()) places.set(entry, (places.get(entry) ?? 0n) | (1n << BigInt(at)))
  const all = (1n << BigInt(one.length)) - 1n
  let open = all
  for (const entry of other) {
    const matched = open & (places.get(entry) ?? 0n)
    if (matched !== 0n) open = ((open + matched) | (open - matched)) & all
  }
  return one.length - (open.toString(2).match(/1/g)?.length ?? 0)
}
