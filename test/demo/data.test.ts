/** The data of `lowrank demo`: what is held out is new, and it is what scripts/demo writes. */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { expect, test } from 'vitest'
import { scratchFolder } from '../lib/scratch.js'

const root = fileURLToPath(new URL('../../', import.meta.url))
const load = (name: string) => import(join(root, 'scripts/demo', name))
const read = (name: string) => readFileSync(join(root, 'demo', name), 'utf8')
const rows = (text: string) =>
  text
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line).messages.map(({ content }: { content: string }) => content) as string[])

/** Invented names of a task's answer: of the person and of the place. */
const names = ([, answer = '']: string[]) => {
  const { client, place } = JSON.parse(answer) as { client: string; place: string }
  return [client, place]
}

test('no note, answer or name of the held-out items is in the training data', () => {
  const [train, held] = [rows(read('train.jsonl')), rows(read('test.jsonl'))]
  expect([train.length, held.length]).toEqual([3000, 150])
  const seen = new Set(train.flat())
  expect(held.flat().filter((text) => seen.has(text))).toEqual([])
  const seenNames = new Set(train.flatMap(names))
  expect(held.flatMap(names).filter((name) => seenNames.has(name))).toEqual([])
  expect(new Set(held.map(([note]) => note)).size).toBe(held.length)
})

test("the task's keys and questions are not in what the base model reads", async () => {
  const { document } = await load('text.mjs')
  const { chatRow } = await load('chats.mjs')
  const text = Array.from({ length: 4000 }, (_, i) => `${document(1, i)}\n${JSON.stringify(chatRow(1, i))}`)
  expect(text.filter((document) => /"(quantity|style|year)\b/.test(document))).toEqual([])
  const notes = new Set([...rows(read('train.jsonl')), ...rows(read('test.jsonl'))].flat())
  expect(text.flatMap((document) => document.split('\n')).filter((line) => notes.has(line))).toEqual([])
})

test('the data is what its script writes', async () => {
  const { writeTask } = await load('write_task.mjs')
  const folder = scratchFolder()
  await writeTask(folder)
  for (const name of ['train.jsonl', 'test.jsonl'])
    expect(readFileSync(join(folder, name), 'utf8')).toBe(read(name))
})
