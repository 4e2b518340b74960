/** Marks in text that keep special tokens from being read as such. */

/** A noncharacter, which no text for interchange holds: behind the first character of a token, it keeps it from being one. */
export const ESCAPE_MARK = '\ufdd2'

export function withoutMarks(text: string): string {
  return text.replaceAll(ESCAPE_MARK, '')
}
