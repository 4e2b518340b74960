import { expect, it } from 'vitest'
import { chunkDecoder, decodeBytes, encodingName } from '../../../../lib/data/dataset/decode.js'
import { detectEncoding } from '../../../../lib/data/dataset/encoding.js'
import { ENCODED } from './encoded-texts.js'

const bytesOf = (hex: string) => Buffer.from(hex, 'hex')
const row = (text: Uint8Array) =>
  Buffer.concat([Buffer.from('{"text": "'), text, Buffer.from('", "label": "sports"}\n')])

it.each(ENCODED)('recognizes %s: %s', (encoding, _, text, hex) => {
  const bytes = bytesOf(hex)
  expect(detectEncoding(bytes)).toBe(encoding)
  expect(detectEncoding(Buffer.concat(Array(9).fill(row(bytes))))).toBe(encoding)
  expect(decodeBytes(bytes, encoding)).toBe(text)
})

it('recognizes a single word and a euro sign', () => {
  expect(detectEncoding(Buffer.from('text,label\ncaf\xe9,food\n', 'latin1'))).toBe('windows-1252')
  expect(detectEncoding(Buffer.from('price\n5 \x80, it\x92s good\n', 'latin1'))).toBe('windows-1252')
})

it('takes names of several languages of Western Europe for those, not for one of the Baltic', () => {
  const names = 'name\nGünther\nSøren\nZoë\nFrançois\nJosé\nBjörn\n'
  expect(detectEncoding(Buffer.from(names, 'latin1'))).toBe('windows-1252')
})

it('recognizes UTF-16 with a byte order mark and without one', () => {
  const text = 'text,label\nПривет мир,hello\n'
  const little = Buffer.from(text, 'utf16le')
  const big = Buffer.from(little).swap16()
  expect(detectEncoding(little)).toBe('utf-16le')
  expect(detectEncoding(big)).toBe('utf-16be')
  expect(detectEncoding(Buffer.concat([Buffer.from('fffe', 'hex'), little]))).toBe('utf-16le')
  expect(detectEncoding(Buffer.concat([Buffer.from('feff', 'hex'), big]))).toBe('utf-16be')
})

it('stays with UTF-8 that is cut or has a damaged character', () => {
  const text = Buffer.from('é'.repeat(50))
  expect(detectEncoding(text)).toBe('utf-8')
  expect(detectEncoding(text.subarray(0, -1))).toBe('utf-8')
  expect(detectEncoding(Buffer.concat([text, Buffer.of(0xc3, 0x28), text]))).toBe('utf-8')
})

it('takes bytes of no text for none', () => {
  const bytes = Buffer.from(Array.from({ length: 4096 }, (_, i) => (i * i * 7 + i) & 255))
  expect(detectEncoding(bytes)).toBeUndefined()
})

it('decodes windows-1252 as the standard has it, which some versions of Node.js do not', () => {
  const all = decodeBytes(
    Uint8Array.from({ length: 32 }, (_, i) => 0x80 + i),
    'windows-1252',
  )
  expect(all).toBe('€\x81‚ƒ„…†‡ˆ‰Š‹Œ\x8dŽ\x8f\x90‘’“”•–—˜™š›œ\x9džŸ')
  expect(encodingName('latin1')).toBe('windows-1252')
  expect(encodingName('utf-9')).toBeUndefined()
})

it('decodes characters that two chunks share', () => {
  const bytes = bytesOf(ENCODED.find(([name]) => name === 'shift_jis')?.[3] as string)
  const decoder = chunkDecoder('shift_jis')
  const text = Array.from(bytes, (byte) => decoder.decode(Uint8Array.of(byte), { stream: true })).join('')
  expect(text + decoder.decode(new Uint8Array())).toBe('これはテストです。日本語の文章をエンコードします。')
})
