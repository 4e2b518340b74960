/**
 * Today's date in texts of chat templates: found by rendering on a known day, kept as a mark, and written in the template
 * language of Ollama, whose `currentDate` is a text such as 2031-11-26.
 */
import { strftime } from '../tokenizer/strftime.js'

/** Days to render on, which differ in every part. */
export const DAYS = [new Date(2031, 10, 26), new Date(2024, 0, 13)] as const

/** Formats in chat templates, for Python's strftime. */
const FORMATS = ['%d %b %Y', '%d %B %Y', '%B %d, %Y', '%Y-%m-%d']

const MARK = /\0([^\0]+)\0/

/** The text with marks in the place of the date. */
export function markDates(text: string, day: Date): string {
  return FORMATS.reduce((marked, format) => marked.replaceAll(strftime(day, format), `\0${format}\0`), text)
}

export const hasDate = (text: string): boolean => MARK.test(text)

/**
 * The text in Ollama's template language.
 * @param literal writes text without dates
 */
export function goText(text: string, literal: (text: string) => string): string {
  // With the group in the pattern, every second part is a format.
  const parts = text.split(new RegExp(MARK, 'g'))
  return parts.map((part, i) => (i % 2 === 0 ? literal(part) : goDate(part))).join('')
}

function goDate(format: string): string {
  return format.replace(/%(\w)/g, (_, part: string) => PARTS[part] as string)
}

const digits = (from: number, to: number) => `slice currentDate ${from} ${to}`

const PARTS: Readonly<Record<string, string>> = {
  Y: `{{ ${digits(0, 4)} }}`,
  m: `{{ ${digits(5, 7)} }}`,
  d: `{{ ${digits(8, 10)} }}`,
  b: monthName('%b'),
  B: monthName('%B'),
}

/** Go's templates have no table of months. */
function monthName(format: string): string {
  const cases = Array.from({ length: 12 }, (_, month) => {
    const number = String(month + 1).padStart(2, '0')
    return `if eq (${digits(5, 7)}) "${number}" }}${strftime(new Date(2024, month), format)}{{ `
  })
  return `{{ ${cases.join('else ')}end }}`
}
