/** The bytes that may come next in texts of many schemas are those of llguidance (test/parity/make_grammar.py), but for listed ones. */
import { readFileSync } from 'node:fs'
import { expect, test } from 'vitest'
import { compileGrammar } from '../../../lib/grammar/grammar.js'
import { addon } from '../../../lib/native/addon.js'

/** Tokens of one byte each, and one that ends the text. */
const END = 256
const vocabulary = addon().createVocabulary({
  bytes: Uint8Array.from({ length: END }, (_, byte) => byte),
  ends: Int32Array.from({ length: END + 1 }, (_, byte) => Math.min(byte + 1, END)),
  special: new Uint8Array(END + 1),
})

interface Golden {
  /** Ascending pairs of the first and the last byte. */
  sets: number[][]
  /** `next[i]` is the set of what may come after `i` bytes. */
  cases: { schema: object; texts: { bytes: string; next: number[] }[] }[]
}

const { sets, cases } = JSON.parse(readFileSync('test/parity/grammar.json', 'utf8')) as Golden
const allowedBy = sets.map((runs) =>
  runs.flatMap((low, i) =>
    i % 2 === 1 ? [] : Array.from({ length: (runs[i + 1] as number) - low + 1 }, (_, k) => low + k),
  ),
)
const code = (text: string) => Buffer.from(text)[0] as number
const closes = (byte: number) => byte === END || ',]}'.includes(String.fromCharCode(byte))
const isDigit = (byte: number) => byte >= code('0') && byte <= code('9')

/** A place where one of both allows a byte that the other does not. */
interface Place {
  byte: number
  before: string
  schema: string
}

/** What only lowrank allows. */
const OURS: Record<string, (place: Place) => boolean> = {
  'U+007F as it is, as JSON has it': ({ byte }) => byte === 0x7f,
  'U+FEFF as white space of a pattern, as in JavaScript': ({ byte, schema }) =>
    byte === 0xef && schema.includes('\\\\s'),
  'the end of any number with a fraction in its range': ({ byte, before }) =>
    closes(byte) && /\d\.\d+$/.test(before),
}
/** What only llguidance allows. */
const THEIRS: Record<string, (place: Place) => boolean> = {
  'integers beyond 2^53, more digits of numbers than doubles have, and exponents that doubles lack': ({
    byte,
    before,
  }) => isDigit(byte) && (/[\d.]{15,}$/.test(before) || /e[+-]?\d\d$/i.test(before)),
  '-0': ({ byte, before }) => (byte === code('0') ? /-$/ : /-0$/).test(before),
  'the second 60': ({ byte, before }) => byte === code('6') && /\d\d:\d\d:$/.test(before),
  'T and Z of times in lower case': ({ byte, before }) =>
    (byte === code('t') && /\d{4}-\d\d-\d\d$/.test(before)) ||
    (byte === code('z') && /:\d\d(\.\d+)?$/.test(before)),
  'more than nine digits of a second': ({ byte, before }) => isDigit(byte) && /:\d\d\.\d{9}$/.test(before),
  'other spellings of characters of a constant': ({ byte, before }) =>
    byte === code('u') && before.endsWith('\\'),
  'spaces inside a constant': ({ byte, schema }) => byte === code(' ') && schema.includes('"const":{'),
}

test('the bytes that may come next are those of llguidance', () => {
  const seen = new Set<string>()
  let places = 0
  for (const { schema, texts } of cases) {
    const grammar = addon().createGrammar(vocabulary, compileGrammar({ kind: 'schema', schema }))
    const json = JSON.stringify(schema)
    for (const { bytes, next } of texts) {
      const text = Buffer.from(bytes, 'hex')
      const matcher = addon().createMatcher(grammar, Int32Array.of(END))
      for (const [at, set] of next.entries()) {
        const theirs = new Set(allowedBy[set])
        const ours = new Set(addon().allowedTokens(matcher, END + 1))
        const before = text.subarray(0, at).toString()
        for (const [known, more, less] of [
          [OURS, ours, theirs],
          [THEIRS, theirs, ours],
        ] as const)
          for (const byte of more) {
            if (less.has(byte)) continue
            const place = { byte, before, schema: json }
            const name = Object.keys(known).find((each) => known[each]?.(place))
            expect(
              name,
              `${known === OURS ? 'only lowrank' : 'only llguidance'}: ${byte} after ${before} of ${json}`,
            ).toBeDefined()
            seen.add(name as string)
          }
        places++
        const byte = text[at]
        if (byte === undefined || !ours.has(byte)) break
        addon().acceptToken(matcher, byte)
      }
    }
  }
  expect(places).toBeGreaterThan(10_000)
  // Each difference is there, so that the list stays true.
  expect([...seen].sort()).toEqual([...Object.keys(OURS), ...Object.keys(THEIRS)].sort())
})
