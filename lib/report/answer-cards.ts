/** Answers on the page of a run, beside what was expected, as HTML. */
import { isRight, splitReasoning } from '../train/measures/answer-scores.js'
import { escaped, formatNumber, formatShare } from './chart/index.js'
import type { RunPageData } from './run-data.js'

const LONGEST = 2000

type SampleRow = NonNullable<RunPageData['samples']>['rows'][number]

/** Rows as they are answered before and after training. */
export function sampleCards(rows: readonly SampleRow[]): string {
  const cards = rows.map(({ prompt, tools, expected, base, tuned, cut }) => {
    const right = isRight(tuned, expected)
    return card(prompt, [answerHtml('Before', base, expected), answerHtml('After', tuned, expected)], {
      expected: right ? undefined : expected,
      tools,
      cut,
    })
  })
  return `<div class="cards">${cards.join('')}</div>`
}

/** Rows with the classes that a classifier predicts. */
export function classifiedCards(
  rows: NonNullable<NonNullable<RunPageData['samples']>['classified']>,
): string {
  const cards = rows.map(({ text, expected, predicted, probability }) => {
    const right = predicted === expected
    const shown = `${escaped(shortened(predicted))}, ${formatShare(probability)}`
    return card(
      text,
      [`<div><h3>Predicted ${verdict(right)}</h3><p class="answer" dir="auto">${shown}</p></div>`],
      {
        ...{ expected: right ? undefined : expected, tools: undefined, cut: false },
      },
    )
  })
  return `<div class="cards">${cards.join('')}</div>`
}

/** Rows as several models answer them. A model without an answer is left out. Without an expected one, answers have scores. */
export function answeredCards(
  rows: readonly {
    prompt: string
    expected?: string
    answers: readonly { label: string; text: string | null; score?: number | null }[]
  }[],
): string {
  const cards = rows.map(({ prompt, expected, answers }) => {
    const given = answers.flatMap(({ text, ...one }) => (text === null ? [] : { ...one, text }))
    if (expected === undefined) {
      const scored = given.map(({ label, text, score }) => scoredHtml(escaped(label), text, score ?? 0))
      return card(prompt, scored, { expected, tools: undefined, cut: false })
    }
    const shown = given.map(({ label, text }) => answerHtml(escaped(label), text, expected))
    const right = given.some(({ text }) => isRight(text, expected))
    return card(prompt, shown, { expected: right ? undefined : expected, tools: undefined, cut: false })
  })
  return `<div class="cards">${cards.join('')}</div>`
}

/**
 * Rows as they are answered at the evaluations.
 * @param unit what steps are called
 */
export function stepCards(answers: RunPageData['answers'], unit: string): string {
  const prompts = [...new Set(answers.flatMap(({ rows }) => rows.map(({ prompt }) => prompt)))]
  const cards = prompts.map((prompt) => {
    const made = answers.flatMap(({ step, rows }) =>
      rows.filter((row) => row.prompt === prompt).map((row) => ({ step, ...row })),
    )
    const changes = made.filter(({ answer }, index) => answer !== made[index - 1]?.answer)
    const shown = changes.map(({ step, answer, expected }, index) => {
      const next = changes[index + 1]?.step
      const last = made.findLast((one) => next === undefined || one.step < next)?.step ?? step
      const name = `${unit} ${formatNumber(step)}${last > step ? ` to ${formatNumber(last)}` : ''}`
      return answerHtml(`${name[0]?.toUpperCase()}${name.slice(1)}`, answer, expected)
    })
    const { expected, tools } = made[0] as (typeof made)[number]
    return card(prompt, shown, { expected, tools, cut: made.some(({ cut }) => cut) })
  })
  return `<div class="cards">${cards.join('')}</div>`
}

function card(
  prompt: string,
  answers: readonly string[],
  { expected, tools, cut }: { expected: string | undefined; tools: SampleRow['tools']; cut: boolean },
): string {
  const wanted =
    expected === undefined
      ? ''
      : `<p class="expected" dir="auto"><b>Expected</b> ${escaped(shortened(expected))}</p>`
  const limit = cut ? '<p class="fine">An answer was cut at 64 tokens.</p>' : ''
  const toolsLine = tools === undefined ? '' : `<p class="fine">Tools: ${escaped(tools.join(', '))}</p>`
  return `<article class="card"><p class="prompt" dir="auto">${escaped(shortened(prompt))}</p>${toolsLine}${answers.join('')}${wanted}${limit}</article>`
}

function answerHtml(title: string, text: string, expected: string): string {
  const right = isRight(text, expected)
  const code = /^\s*[[{<]|```/.test(expected) ? ' code' : ''
  const shown = right ? escaped(shortened(text)) : differences(text, expected)
  return `<div><h3>${title} ${verdict(right)}</h3><p class="answer${code}" dir="auto">${shown}</p></div>`
}

function scoredHtml(title: string, text: string, score: number): string {
  return `<div><h3>${title} <span class="quiet">${score.toFixed(3)}</span></h3><p class="answer" dir="auto">${escaped(shortened(text))}</p></div>`
}

function verdict(right: boolean): string {
  return right ? '<span class="right">✓ right</span>' : '<span class="wrong">✗ differs</span>'
}

export function shortened(text: string): string {
  return text.length > LONGEST
    ? `${text.slice(0, LONGEST)} … (${formatNumber(text.length)} characters)`
    : text
}

/** Highlights words of an answer that are not in the expected one, unless most words differ. */
function differences(text: string, expected: string): string {
  const plain = escaped(shortened(text))
  const [{ reasoning, answer }, wanted] = [splitReasoning(text), splitReasoning(expected)]
  const words = [answer, wanted.answer].map((part) => part.split(/(\s+|[{}":,]+)/))
  const [a, b] = words as [string[], string[]]
  if (a.length * b.length > 250_000) return plain
  const width = b.length + 1
  const common = new Uint16Array((a.length + 1) * width)
  const at = (i: number, j: number) => common[i * width + j] as number
  for (let i = a.length - 1; i >= 0; i--)
    for (let j = b.length - 1; j >= 0; j--)
      common[i * width + j] = a[i] === b[j] ? at(i + 1, j + 1) + 1 : Math.max(at(i + 1, j), at(i, j + 1))
  if (at(0, 0) < 0.6 * a.length) return plain
  let [out, j] = [escaped(reasoning), 0]
  for (let i = 0; i < a.length; ) {
    const word = a[i] as string
    if (j < b.length && word === b[j]) {
      out += escaped(word)
      i++
      j++
    } else if (j < b.length && at(i, j + 1) >= at(i + 1, j)) j++
    else {
      out += word.trim() === '' ? word : `<mark>${escaped(word)}</mark>`
      i++
    }
  }
  return out
}
