/** Generation of models with a state beside the cache: convolutions and gated delta rules. */
import { afterAll, describe, expect, it } from 'vitest'
import { loadModel } from '../../../lib/index.js'
import { Decoder } from '../../../lib/train/decoding/decoder.js'
import { tinyModel } from '../../e2e/tiny-model.js'

/** `departures`: where a prompt leaves a text of `length` ids, and how many of them are reused. */
const CASES = [
  {
    name: 'lfm2_odd',
    length: 150,
    departures: [
      [140, 128],
      [66, 64],
      [64, 64],
      [20, 0],
    ],
  },
  {
    name: 'qwen3_5_odd',
    length: 1040,
    departures: [
      [1030, 1024],
      [520, 512],
      [100, 0],
    ],
  },
] as const

const greedy = { temperature: 0, topK: 0, topP: 1, seed: 0 }
const text = (length: number, seed: number) =>
  Int32Array.from({ length }, (_, i) => 3 + ((i * 37 + i * i * seed) % 200))

async function generated(decoder: Decoder, prompt: Int32Array, count: number): Promise<number[]> {
  const ids: number[] = []
  for await (const id of decoder.tokens(prompt, count, greedy)) if (ids.push(id) === count) break
  return ids
}

describe.each(CASES)('$name', async ({ name, length, departures }) => {
  const model = await loadModel(tinyModel(name), { precision: 'fp32' })
  afterAll(() => model.dispose())

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
    const decoder = await Decoder.open(model.base, [], length + 60, 20)
    const first = text(length, 1)
    const departing = (at: number) => Int32Array.from([...first.subarray(0, at), ...text(5, 5)])
    const prompts: [Int32Array, number][] = [
      [first, 0],
      ...departures.map(([at, reused]): [Int32Array, number] => [departing(at), reused]),
      [text(2, 3), 0],
      [text(1, 3), 0],
    ]
    try {
      for (const [prompt, reused] of prompts) {
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

  it('processes a prompt again after a call that was canceled', async () => {
    const decoder = await Decoder.open(model.base, [], 256, 20)
    const prompt = text(90, 2)
    try {
      await generated(decoder, prompt.slice(0, 70), 1)
      const canceled = AbortSignal.abort()
      await expect(decoder.tokens(prompt, 1, greedy, { signal: canceled }).next()).rejects.toThrow()
      expect(await generated(decoder, prompt, 4)).toEqual(await likeliest(prompt, 4))
    } finally {
      await decoder.close()
    }
  })
})
