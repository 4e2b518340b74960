/** Synthetic texts for measurements; their meaning does not matter. */

/** `count` words of at least one token each. */
export const words = (count: number, row = 0): string =>
  Array.from({ length: count }, (_, i) => `word${(row * 31 + i * 17) % 97}`).join(' ')

/** Rows longer than `tokens`, so that they are truncated to that length. */
export const textRows = (count: number, tokens: number): { text: string }[] =>
  Array.from({ length: count }, (_, row) => ({ text: words(2 * tokens, row) }))
