/** Cases of letters as in Python, which has a case for titles and one for comparisons, as JavaScript does not. */

/** Pairs of letters in one character: the first of three forms is for texts in capitals, the second for titles. */
const PAIRS = ['Ǆǅǆ', 'Ǉǈǉ', 'Ǌǋǌ', 'Ǳǲǳ']
const IOTA = /\u0399$/
const SUBSCRIPT_IOTA = '\u0345'

/** A character at the start of a title. */
function titled(char: string): string {
  if (char === '') return ''
  const pair = PAIRS.find((forms) => forms.includes(char))
  if (pair !== undefined) return pair.charAt(1)
  // Georgian capitals are for texts in capitals alone.
  if (/[\u10d0-\u10ff]/.test(char)) return char
  const upper = char.toUpperCase()
  const [first = '', ...rest] = upper
  if (rest.length === 0) return upper
  return IOTA.test(upper)
    ? upper.replace(IOTA, SUBSCRIPT_IOTA).normalize('NFC')
    : first + rest.join('').toLowerCase()
}

/** Like `str.capitalize`. */
export function capitalize(text: string): string {
  const [first = '', ...rest] = text
  return titled(first) + rest.join('').toLowerCase()
}

/** Like `str.casefold`. */
export const casefold = (text: string): string => Array.from(text, folded).join('')

function folded(char: string): string {
  if (char === 'ı') return char
  // Cherokee is compared in capitals.
  if (/[\u13a0-\u13fd\uab70-\uabbf]/.test(char)) return char.toUpperCase()
  return char.toLowerCase().toUpperCase().toLowerCase()
}
