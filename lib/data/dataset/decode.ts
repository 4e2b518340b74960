/**
 * Decodes text in other encodings than UTF-8, in chunks. `TextDecoder` does the work, except for windows-1252: some
 * versions of Node.js decode it as ISO 8859-1, which makes control characters of € and of quotation marks.
 */

/** Characters of the bytes 0x80 to 0x9f of windows-1252; five of them are not defined and stay as they are. */
const WINDOWS_1252 = '€\x81‚ƒ„…†‡ˆ‰Š‹Œ\x8dŽ\x8f\x90‘’“”•–—˜™š›œ\x9džŸ'

/** Decodes consecutive chunks of a text. */
export interface ChunkDecoder {
  /** @throws {TypeError} when bytes are not text in the encoding */
  decode(chunk: Uint8Array, options?: { stream?: boolean }): string
}

/** The name that `TextDecoder` has for an encoding; undefined if it knows none. */
export function encodingName(label: string): string | undefined {
  try {
    return new TextDecoder(label).encoding
  } catch {
    return undefined
  }
}

/** @param encoding a name that `encodingName` returned */
export function chunkDecoder(encoding: string): ChunkDecoder {
  return encoding === 'windows-1252' ? { decode: windows1252 } : new TextDecoder(encoding, { fatal: true })
}

/** @throws {TypeError} when the bytes are not text in the encoding */
export function decodeBytes(bytes: Uint8Array, encoding: string): string {
  return chunkDecoder(encoding).decode(bytes)
}

function windows1252(bytes: Uint8Array): string {
  const text = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('latin1')
  return text.replace(/[\x80-\x9f]/g, (byte) => WINDOWS_1252[byte.charCodeAt(0) - 0x80] as string)
}
