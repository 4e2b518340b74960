/** Formats dates like Python's `strftime` in the C locale, for the `strftime_now` function of chat templates. */

const DAYS = ['Sunday', 'Monday', 'Tuesday', 'Wednesday', 'Thursday', 'Friday', 'Saturday']
const MONTHS = [
  'January',
  'February',
  'March',
  'April',
  'May',
  'June',
  'July',
  'August',
  'September',
  'October',
  'November',
  'December',
]

const two = (value: number) => String(value).padStart(2, '0')
const name = (names: readonly string[], index: number) => names[index] as string
const short = (names: readonly string[], index: number) => name(names, index).slice(0, 3)

/** Days since January 1, from 0; rounded because of daylight saving time. */
const dayOfYear = (date: Date) =>
  Math.round((startOfDay(date).getTime() - new Date(date.getFullYear(), 0, 1).getTime()) / 86_400_000)
const startOfDay = (date: Date) => new Date(date.getFullYear(), date.getMonth(), date.getDate())

const DIRECTIVES: Record<string, (date: Date) => string> = {
  a: (date) => short(DAYS, date.getDay()),
  A: (date) => name(DAYS, date.getDay()),
  b: (date) => short(MONTHS, date.getMonth()),
  B: (date) => name(MONTHS, date.getMonth()),
  d: (date) => two(date.getDate()),
  D: (date) => strftime(date, '%m/%d/%y'),
  e: (date) => String(date.getDate()).padStart(2),
  F: (date) => strftime(date, '%Y-%m-%d'),
  H: (date) => two(date.getHours()),
  I: (date) => two(date.getHours() % 12 || 12),
  j: (date) => String(dayOfYear(date) + 1).padStart(3, '0'),
  m: (date) => two(date.getMonth() + 1),
  M: (date) => two(date.getMinutes()),
  p: (date) => (date.getHours() < 12 ? 'AM' : 'PM'),
  S: (date) => two(date.getSeconds()),
  T: (date) => strftime(date, '%H:%M:%S'),
  y: (date) => two(date.getFullYear() % 100),
  Y: (date) => String(date.getFullYear()),
  '%': () => '%',
}

/** @param date read in local time. Unknown directives are kept; `%-d` omits the padding. */
export function strftime(date: Date, format: string): string {
  return format.replace(/%(-?)([a-zA-Z%])/g, (whole, bare: string, letter: string) => {
    const directive = DIRECTIVES[letter]
    if (!directive) return whole
    const text = directive(date)
    return bare ? text.replace(/^[0 ]+(?=.)/, '') : text
  })
}
