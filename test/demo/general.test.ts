/** The general text of a compare: varied paragraphs of which none repeats another, and to which more are only added. */
import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { expect, test } from 'vitest'

const lines = readFileSync(new URL('../../demo/general.jsonl', import.meta.url), 'utf8')
  .trimEnd()
  .split('\n')
const paragraphs = lines.map((line) => (JSON.parse(line) as { text: string }).text)
const wordsOf = (text: string) => text.toLowerCase().match(/[\p{L}\p{N}']+/gu) ?? []

/** Words in a row that two paragraphs may not share. */
const PHRASE = 5

test('it has 120 distinct paragraphs, none much shorter or longer than the others', () => {
  expect(paragraphs).toHaveLength(120)
  expect(new Set(paragraphs).size).toBe(paragraphs.length)
  const sizes = paragraphs.map((text) => wordsOf(text).length)
  expect(Math.min(...sizes)).toBeGreaterThanOrEqual(30)
  expect(Math.max(...sizes)).toBeLessThanOrEqual(90)
})

test('no two paragraphs share a long phrase', () => {
  const places = new Map<string, Set<number>>()
  for (const [paragraph, text] of paragraphs.entries()) {
    const words = wordsOf(text)
    for (let i = 0; i + PHRASE <= words.length; i++) {
      const phrase = words.slice(i, i + PHRASE).join(' ')
      places.set(phrase, (places.get(phrase) ?? new Set()).add(paragraph))
    }
  }
  const shared = [...places].filter(([, found]) => found.size > 1).map(([phrase]) => phrase)
  expect(shared).toEqual([])
})

test('the paragraphs of earlier versions stay the first ones, since older results are verified with them', () => {
  const first = createHash('sha256').update(lines.slice(0, 24).join('\n')).digest('hex')
  expect(first).toBe('02fb80644217bbdd316caaf142ad57d685defe5b62903ad71a0b6b52da7303a1')
})
