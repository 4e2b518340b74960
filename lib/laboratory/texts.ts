/** Texts to measure with; what they say does not matter. */

/** `count` words of one token or more each. */
export const words = (count: number, row = 0): string =>
  Array.from({ length: count }, (_, i) => `word${(row * 31 + i * 17) % 97}`).join(' ')

/** Rows of text that are longer than `tokens`, to be cut to that. */
export const textRows = (count: number, tokens: number): { text: string }[] =>
  Array.from({ length: count }, (_, row) => ({ text: words(2 * tokens, row) }))
