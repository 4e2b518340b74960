/** Reads text files, each as one document. */
import { isUtf8 } from 'node:buffer'
import { type Bytes, withoutMark } from './bytes.js'
import { LARGEST_ROW, NotUtf8, type RawRow, rowError } from './place.js'

export async function* readTextFile(bytes: Bytes, path: string): AsyncGenerator<RawRow, void, void> {
  const place = { path, line: 1 }
  const parts: Uint8Array[] = []
  let length = 0
  for await (const chunk of withoutMark(bytes, path)) {
    parts.push(chunk)
    length += chunk.length
    if (length > LARGEST_ROW)
      throw rowError(
        place,
        `the document is larger than ${LARGEST_ROW} bytes; split it, or read it line by line with file_type: lines`,
      )
  }
  const whole = Buffer.concat(parts)
  if (!isUtf8(whole)) throw new NotUtf8(place, 'the file')
  // Normalize line endings from Windows, so that models learn to write a single character.
  const text = whole.toString('utf8').replaceAll('\r\n', '\n')
  if (text.trim() !== '') yield { value: { text }, place }
}
