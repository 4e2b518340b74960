/** Rows as the model sees them: tokens as text, split into trained and untrained parts. */
import { type EncodedRow, IGNORE } from '../../data/encoded-row.js'
import type { WorkerTokenizer } from '../../data/worker-tokenizer.js'
import { formatCount } from '../format.js'
import type { Output } from '../output.js'

/** A part of an example; only trained parts count in the loss. */
export interface Part {
  text: string
  trained: boolean
}

export async function partsOf(
  { inputIds, labels }: Pick<EncodedRow, 'inputIds' | 'labels'>,
  tokenizer: WorkerTokenizer,
): Promise<Part[]> {
  const stream = tokenizer.decodeStream({ skipSpecialTokens: false })
  const parts: Part[] = []
  for (const [i, id] of inputIds.entries()) {
    const trained = i > 0 && labels[i] !== IGNORE
    const last = parts.at(-1)
    const text = await stream.push(id)
    if (last?.trained === trained) last.text += text
    else parts.push({ text, trained })
  }
  const rest = await stream.end()
  const last = parts.at(-1)
  if (last) last.text += rest
  return parts
}

/** Characters of a row to show; beyond this, its middle is omitted. */
const SHOWN = 1600

/** @param whole show everything, regardless of length */
export function markedText(parts: readonly Part[], output: Output, whole: boolean): string {
  const length = parts.reduce((sum, { text }) => sum + text.length, 0)
  if (whole || length <= SHOWN) return parts.map((part) => marked(part, output)).join('')
  const begin = slice(parts, 0, SHOWN / 2)
  const end = slice(parts, length - SHOWN / 2, length)
  const left = output.styled('dim', `\n… ${formatCount(length - SHOWN)} characters …\n`)
  return [
    ...begin.map((part) => marked(part, output)),
    left,
    ...end.map((part) => marked(part, output)),
  ].join('')
}

/** The characters from `start` to `end` of the concatenated parts. */
function slice(parts: readonly Part[], start: number, end: number): Part[] {
  let at = 0
  return parts.flatMap(({ text, trained }) => {
    const piece = text.slice(Math.max(0, start - at), Math.max(0, end - at))
    at += text.length
    return piece === '' ? [] : [{ text: piece, trained }]
  })
}

function marked({ text, trained }: Part, output: Output): string {
  if (!trained) return output.styled('dim', visible(text))
  return output.colors ? output.styled('green', visible(text)) : `[[${visible(text)}]]`
}

/** Escapes control characters other than line feed and tab, so that data cannot control the terminal. */
export function visible(text: string): string {
  return text.replace(/[\p{Cc}\p{Cf}]/gu, (character) =>
    character === '\n' || character === '\t'
      ? character
      : `\\u{${(character.codePointAt(0) as number).toString(16)}}`,
  )
}
