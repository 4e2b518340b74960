import { afterAll, beforeAll, expect, it } from 'vitest'
import { loadModel, type Model } from '../../../lib/index.js'
import { Decoder } from '../../../lib/train/decoder.js'
import { tinyModel } from '../../e2e/tiny-model.js'

let model: Model
beforeAll(async () => {
  model = await loadModel(tinyModel('qwen3_5_odd'), { precision: 'fp32' })
})
afterAll(() => model.dispose())

const greedy = { temperature: 0, topK: 0, topP: 1, seed: 0 }
const text = (length: number, seed: number) =>
  Int32Array.from({ length }, (_, i) => 3 + ((i * 37 + i * i * seed) % 200))

async function generated(decoder: Decoder, prompt: Int32Array, count: number): Promise<number[]> {
  const ids: number[] = []
  for await (const id of decoder.tokens(prompt, count, greedy)) if (ids.push(id) === count) break
  return ids
}

/** The likeliest ids after a prompt, each from the logits of the whole text. */
async function likeliest(prompt: Int32Array, count: number): Promise<number[]> {
  const ids = [...prompt]
  while (ids.length < prompt.length + count) {
    const logits = await model.logits(Int32Array.from(ids))
    const last = logits.subarray(logits.length - logits.length / ids.length)
    ids.push(last.indexOf(Math.max(...last)))
  }
  return ids.slice(prompt.length)
}

it('generates what the likeliest tokens of whole texts are, wherever a prompt departs from the cached text', async () => {
  const decoder = await Decoder.open(model.base, [], 1100, 100)
  const first = text(1040, 1)
  const departing = (at: number) => Int32Array.from([...first.subarray(0, at), ...text(5, 5)])
  try {
    for (const [prompt, reused] of [
      [first, 0],
      [departing(1030), 1024],
      [departing(520), 512],
      [departing(100), 0],
      [text(2, 3), 0],
      [text(1, 3), 0],
    ] as const) {
      const found = await generated(decoder, prompt, 3)
      expect(decoder.reused).toBe(reused)
      expect(found).toEqual(await likeliest(prompt, 3))
      // The next turn of a chat goes on where the last one ended.
      const next = Int32Array.from([...prompt, ...found, 7, 8, 9])
      const answer = await generated(decoder, next, 2)
      expect(decoder.reused).toBe(prompt.length + found.length - 1)
      expect(answer).toEqual(await likeliest(next, 2))
    }
  } finally {
    await decoder.close()
  }
})
