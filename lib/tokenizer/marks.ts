/** Marks in text that prevent special tokens from being recognized. */

/**
 * A noncharacter, which valid text never contains; inserted after a token's first character, it breaks up the
 * token.
 */
export const ESCAPE_MARK = '\ufdd2'

export function withoutMarks(text: string): string {
  return text.replaceAll(ESCAPE_MARK, '')
}
