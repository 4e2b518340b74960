/** External values in messages, made printable and truncated. */

/** A value from a file, made safe for a message: as JSON, printable, and at most about 80 characters long. */
export function quote(value: unknown): string {
  if (value === undefined) return 'nothing'
  if (typeof value === 'string') return escapeControls(JSON.stringify(cut(value)))
  if (typeof value === 'bigint' || typeof value === 'number') return String(value)
  return escapeControls(cut(JSON.stringify(value)))
}

/** Escapes control and formatting characters. */
export function escapeControls(text: string): string {
  return text.replace(/[\p{Cc}\p{Cf}]/gu, (character) => {
    const code = character.codePointAt(0) as number
    return code > 0xffff ? `\\u{${code.toString(16)}}` : `\\u${code.toString(16).padStart(4, '0')}`
  })
}

const cut = (text: string): string => (text.length > 80 ? `${text.slice(0, 77)}...` : text)
