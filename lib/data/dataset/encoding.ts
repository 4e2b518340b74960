/**
 * Recognizes the encoding of text that is not UTF-8. Each encoding is tried, and the one is chosen whose characters
 * are the most at home: letters of one language, in the case of their neighbors, or signs that texts have.
 */
import { isUtf8 } from 'node:buffer'
import { decodeBytes } from './decode.js'

/** Bytes at the start of a file that suffice to recognize its encoding. */
export const ENCODING_SAMPLE = 1 << 18

/** Signs of office programs, which all encodings of Windows have. */
const SIGNS = '€‚„…‘’“”–—•™«»°§©®·´'

/** By far the most frequent encoding of tables of office programs. */
const WESTERN = 'windows-1252'

/** Letters of a language beside a to z, in its encodings; the first of equally likely ones is chosen. */
const ALPHABETS: readonly [letters: string, encodings: string][] = [
  ['àâæçèéêëîïôœùûüÿ', 'windows-1252 macintosh'], // French
  ['äöüß', 'windows-1252 macintosh'], // German
  ['áéíóúñüçãõâêôàªº¿¡ï', 'windows-1252 macintosh'], // Spanish, Portuguese, Catalan
  ['àèéìíîòóù', 'windows-1252 macintosh'], // Italian
  ['åäöøæéþðáíóúý', 'windows-1252 macintosh'], // Nordic
  ['ąćęłńóśźż', 'windows-1250 iso-8859-2'], // Polish
  ['áčďéěíňóřšťúůýžľĺŕäô', 'windows-1250 iso-8859-2'], // Czech, Slovak
  ['áéíóöőúüű', 'windows-1250 iso-8859-2'], // Hungarian
  ['čćžšđ', 'windows-1250 iso-8859-2'], // Croatian, Slovene
  ['ăâîşţ', 'windows-1250 iso-8859-2'], // Romanian
  ['çğıöşüâîû', 'windows-1254'], // Turkish
  ['āčēģīķļņšūžąęėįųõäöü', 'windows-1257'], // Baltic
  ['абвгдежзийклмнопрстуфхцчшщъыьэюяё№', 'windows-1251 koi8-r ibm866'], // Russian, Bulgarian
  ['абвгґдеєжзиіїйклмнопрстуфхцчшщьюя’№', 'windows-1251 koi8-u'], // Ukrainian
  ['αβγδεζηθικλμνξοπρστυφχψωςάέήίόύώϊϋΐΰ', 'windows-1253'], // Greek
  ['ابتثجحخدذرزسشصضطظعغفقكلمنهويىةءآأؤإئ،؛؟', 'windows-1256'], // Arabic
]

/** The most frequent characters of Chinese, a third of any text, in both forms. */
const HANZI: readonly [encoding: string, characters: string][] = [
  [
    'gb18030',
    '的一是不了在人有我他这个们中来上大为和国地到以说时要就出会可也你对生能而子那得于着下自之年过发后作里',
  ],
  [
    'big5',
    '的一是不了在人有我他這個們中來上大為和國地到以說時要就出會可也你對生能而子那得於著下自之年過發後作裡',
  ],
]

/**
 * The likely encoding of text: a name that `TextDecoder` knows.
 * @param sample the first bytes of a file, best several kilobytes; a character may be cut at their end
 * @returns undefined if no encoding makes a text of the bytes
 */
export function detectEncoding(sample: Uint8Array): string | undefined {
  const marked = markedEncoding(sample) ?? wideEncoding(sample)
  if (marked !== undefined) return marked
  // Texts have tabs, line ends and form feeds, but hardly another control character.
  if (sample.some((byte) => byte < 0x09 || (byte > 0x0d && byte < 0x1b))) return undefined
  if (isMostlyUtf8(sample)) return 'utf-8'
  const words = foreignWords(sample)
  return eastAsian(words) ?? singleByte(words)
}

/** The encoding that a byte order mark names. */
export function markedEncoding(bytes: Uint8Array): 'utf-8' | 'utf-16le' | 'utf-16be' | undefined {
  const [a, b, c] = bytes
  if (a === 0xef && b === 0xbb && c === 0xbf) return 'utf-8'
  if (a === 0xff && b === 0xfe) return 'utf-16le'
  return a === 0xfe && b === 0xff ? 'utf-16be' : undefined
}

/** UTF-16 without a mark: texts of all languages have spaces or line feeds, whose other byte is 0. */
function wideEncoding(bytes: Uint8Array): string | undefined {
  const zeros: [even: number, odd: number] = [0, 0]
  for (let i = 0; i < bytes.length; i++) if (bytes[i] === 0) (zeros[i % 2] as number)++
  const [even, odd] = zeros
  if (Math.max(even, odd) < Math.max(2, bytes.length / 64)) return undefined
  const found = odd > 8 * even ? 'utf-16le' : even > 8 * odd ? 'utf-16be' : undefined
  return found !== undefined && decodes(bytes.subarray(0, bytes.length & ~1), found) ? found : undefined
}

/** True for UTF-8 with a few damaged characters, too, or with one that is cut at the end. */
function isMostlyUtf8(bytes: Uint8Array): boolean {
  if (isUtf8(bytes)) return true
  const text = new TextDecoder().decode(bytes)
  return shareOf(text, /\ufffd/g) < 0.1
}

/** Most bytes of words that are compared. */
const MOST_WORDS = 1 << 14

/** The words with bytes beyond ASCII. None of the characters between them is a part of another in any encoding. */
function foreignWords(bytes: Uint8Array): Uint8Array {
  const words: Uint8Array[] = []
  let start = 0
  let length = 0
  for (let end = 0; end <= bytes.length && length < MOST_WORDS; end++) {
    const byte = bytes[end]
    if (byte !== undefined && byte > 0x22 && byte !== 0x2c) continue
    const word = bytes.subarray(start, end)
    if (word.some((one) => one >= 0x80)) {
      words.push(word, Uint8Array.of(0x20))
      length += word.length + 1
    }
    start = end + 1
  }
  return Buffer.concat(words)
}

function decodes(bytes: Uint8Array, encoding: string): string | undefined {
  try {
    return decodeBytes(bytes, encoding)
  } catch {
    return undefined
  }
}

/** Share of the characters beyond ASCII that match. */
function shareOf(text: string, matching: RegExp): number {
  const all = text.match(/[^\p{ASCII}]/gu)?.length ?? 0
  return all === 0 ? 0 : (text.match(matching)?.length ?? 0) / all
}

function eastAsian(words: Uint8Array): string | undefined {
  for (const encoding of ['shift_jis', 'euc-jp']) {
    const text = decodes(words, encoding) ?? ''
    const kana = shareOf(text, /[\u3041-\u30fe]/gu)
    if (kana > 0.15 && shareOf(text, /[\u3000-\u30ff\p{Script=Han}\uff01-\uff5e]/gu) > 0.9) return encoding
  }
  if (shareOf(decodes(words, 'euc-kr') ?? '', /\p{Script=Hangul}/gu) > 0.8) return 'euc-kr'
  const [best] = HANZI.map(([encoding, common]) => {
    const text = decodes(words, encoding) ?? ''
    const isChinese = shareOf(text, /[\u3000-\u303f\p{Script=Han}\uff01-\uff5e]/gu) > 0.8
    return { encoding, share: isChinese ? shareOf(text, new RegExp(`[${common}]`, 'gu')) : 0 }
  }).sort((a, b) => b.share - a.share)
  return best !== undefined && best.share > 0.1 ? best.encoding : undefined
}

function singleByte(words: Uint8Array): string | undefined {
  const candidates = ALPHABETS.flatMap(([letters, encodings]) =>
    encodings.split(' ').map((encoding) => ({ encoding, home: new Set(letters) })),
  )
  const texts = new Map<string, string>()
  for (const { encoding } of candidates)
    if (!texts.has(encoding)) texts.set(encoding, decodes(words, encoding) ?? '')
  const scores = candidates.map(({ encoding, home }) => ({
    encoding,
    score: plausibility(texts.get(encoding) as string, home),
  }))
  const [best] = [{ encoding: WESTERN, score: westernWords(texts.get(WESTERN) as string) }, ...scores]
    // Stable, so that the first of equals stays first.
    .sort((a, b) => b.score - a.score)
  return best !== undefined && best.score > 0 ? best.encoding : undefined
}

/**
 * Tables of names mix the languages of Western Europe, whose letters together are also those of one language elsewhere:
 * each word is at home in one of them.
 */
function westernWords(text: string): number {
  const homes = ALPHABETS.filter(([, encodings]) => encodings.startsWith(WESTERN)).map(
    ([letters]) => new Set(letters),
  )
  const score = (word: string) => Math.max(...homes.map((home) => plausibility(word, home)))
  return text.split(/(?<= )/).reduce((sum, word) => sum + score(word), 0)
}

const isLetter = (character: string) => character.toLowerCase() !== character.toUpperCase()

/** How much of a text is at home in a language: from -1 to 1 for each character beyond ASCII. */
function plausibility(text: string, home: ReadonlySet<string>): number {
  const isLatin = /\p{Script=Latin}/u.test([...home][0] as string)
  const characters = [...text]
  let score = 0
  for (const [i, character] of characters.entries()) {
    if (character <= '\x7f') continue
    const before = characters[i - 1] ?? ' '
    const lower = character.toLowerCase()
    let isWrong: boolean
    if (home.has(lower)) {
      // A capital inside a word, or a foreign letter beside one of a to z, is a wrong guess.
      const isInside = lower !== character && isLetter(before) && before.toUpperCase() !== before
      isWrong = isInside || (!isLatin && /[a-z]/i.test(before))
    } else {
      const isBetween = isLetter(before) && isLetter(characters[i + 1] ?? ' ') && character !== '’'
      isWrong = isBetween || !SIGNS.includes(character)
    }
    score += isWrong ? -1 : 1
  }
  return score
}
