import { describe, expect, it, test } from 'vitest'
import { WordWrap } from '../../../lib/cli/word-wrap.js'

/** In pieces of so many characters. */
function wrapped(text: string, columns: number, size = 3): string {
  let written = ''
  const wrap = new WordWrap(
    (part) => {
      written += part
    },
    () => columns,
  )
  const characters = [...text]
  for (let i = 0; i < characters.length; i += size) wrap.piece(characters.slice(i, i + size).join(''))
  wrap.end()
  return written
}

describe.each([1, 3, 1000])('text in pieces of %i characters', (size) => {
  it.each([
    ['one two three four', 10, 'one two\nthree four'],
    ['one two three', 13, 'one two three'],
    ['  an indent stays', 12, '  an indent\n  stays'],
    ['one\n\ntwo three', 8, 'one\n\ntwo\nthree'],
    ['- one two\n- three four five', 12, '- one two\n- three four\n  five'],
    ['10. one two three', 12, '10. one two\n    three'],
    ['trailing   \nspace ', 12, 'trailing\nspace'],
    ['see https://example.com/a/long/path now', 12, 'see\nhttps://example.com/a/long/path\nnow'],
    ['a\tb c', 10, 'a\tb\nc'],
    ['wide Ａｎｓｗｅｒ ok', 12, 'wide\nＡｎｓｗｅｒ\nok'],
    ['한국어는 띄어쓰기가 있다', 12, '한국어는\n띄어쓰기가\n있다'],
    ['日本語の文です。次の文', 15, '日本語の文で\nす。次の文'],
    ['👩‍👩‍👧 family of three', 11, '👩‍👩‍👧 family\nof three'],
  ])('%j on %i columns', (text, columns, expected) => {
    expect(wrapped(text, columns, size)).toBe(expected)
  })

  it('is left alone between fences, and wrapped after them', () => {
    const code = '```js\nconst a_long_line = of(code, that, stays)\n  indented ` ` \n```'
    expect(wrapped(`some words before\n${code}\nsome words behind`, 12, size)).toBe(
      `some words\nbefore\n${code}\nsome words\nbehind`,
    )
    const longer = '~~~~\n~~~ is not the end of it here\n~~~~'
    expect(wrapped(`${longer}\nbut that was it`, 12, size)).toBe(`${longer}\nbut that was\nit`)
  })
})

it('follows the width of the terminal', () => {
  let written = ''
  let columns = 20
  const wrap = new WordWrap(
    (part) => {
      written += part
    },
    () => columns,
  )
  wrap.piece('one two three four\n')
  columns = 9
  wrap.piece('one two three four\n')
  expect(written).toBe('one two three four\none two\nthree\nfour\n')
})

it('writes a word as soon as it is whole', () => {
  const written: string[] = []
  const wrap = new WordWrap(
    (part) => void written.push(part),
    () => 80,
  )
  wrap.piece('one tw')
  expect(written.join('')).toBe('one')
  wrap.piece('o ')
  expect(written.join('')).toBe('one two')
})

test('a word that does not end is seen as it grows', () => {
  let written = ''
  const wrap = new WordWrap(
    (part) => {
      written += part
    },
    () => 10,
  )
  wrap.piece('see abcd')
  expect(written).toBe('see')
  wrap.piece('efg')
  expect(written).toBe('see\nabcdefg')
  wrap.piece('hijklm')
  expect(written).toBe('see\nabcdefghijklm')
  wrap.piece(' on')
  wrap.end()
  expect(written).toBe('see\nabcdefghijklm\non')
})
