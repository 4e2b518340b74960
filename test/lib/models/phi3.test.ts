import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { loadModel, type Model } from '../../../lib/index.js'
import { tinyModel } from '../../e2e/tiny-model.js'

/** Tokens above which texts have other frequencies. */
const ORIGINAL = 60

let model: Model
beforeAll(async () => {
  const folder = tinyModel('phi3')
  const config = join(folder, 'config.json')
  const change = { max_position_embeddings: 4096, original_max_position_embeddings: ORIGINAL }
  writeFileSync(config, JSON.stringify({ ...JSON.parse(readFileSync(config, 'utf8')), ...change }))
  model = await loadModel(folder, { precision: 'fp32' })
})
afterAll(() => model.dispose())

/** The likeliest token after each of a text, as the model has it for the whole. */
async function likeliest(ids: readonly number[]): Promise<number[]> {
  const logits = await model.logits(Int32Array.from(ids))
  const vocabulary = logits.length / ids.length
  return ids.map((_, at) => {
    const row = logits.subarray(at * vocabulary, (at + 1) * vocabulary)
    return row.indexOf(Math.max(...row))
  })
}

it('generates by the frequencies of the length that the text may reach', async () => {
  const ids = [...'Color of'].map((letter) => 3 + letter.charCodeAt(0))
  const found: number[][] = []
  for (const reach of [ORIGINAL, ORIGINAL + 1]) {
    const { tokenIds } = await model.generate('Color of', {
      maxNewTokens: reach + 1 - ids.length,
      temperature: 0,
      chatTemplate: false,
    })
    expect(tokenIds).toHaveLength(reach + 1 - ids.length)
    const text = [...ids, ...tokenIds].slice(0, -1)
    expect(text).toHaveLength(reach)
    expect((await likeliest(text)).slice(ids.length - 1)).toEqual(tokenIds)
    found.push(tokenIds)
  }
  expect(found[1]?.slice(0, -1)).not.toEqual(found[0])
})

it('computes the turns of a chat again where they become a long text', async () => {
  const chat = await model.chat({ temperature: 0, maxNewTokens: 4 })
  const say = async (text: string, maxNewTokens: number) => {
    const parts = chat.send(text, { maxNewTokens })
    for (;;) {
      const { done, value } = await parts.next()
      if (done) return value
    }
  }
  try {
    expect((await say('a', 4)).reusedTokens).toBe(0)
    expect((await say('b', 100)).reusedTokens).toBe(0)
    const asked = [...chat.messages, { role: 'user' as const, content: 'c' }]
    const third = await say('c', 100)
    expect(third.reusedTokens).toBeGreaterThan(0)
    expect(third.tokenIds).toEqual(
      (await model.generate(asked, { temperature: 0, maxNewTokens: 100 })).tokenIds,
    )
  } finally {
    await chat.dispose()
  }
})
