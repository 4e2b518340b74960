import { describe, expect, test } from 'vitest'
import { ConfigError } from '../../../lib/core/errors.js'
import type { Adapter } from '../../../lib/model/adapter.js'
import type { Model } from '../../../lib/model/model.js'
import { lora } from '../../../lib/strategies/lora.js'
import { tinyLoader } from '../train/tiny-models.js'

const load = tinyLoader()

async function attach(): Promise<{ model: Model; adapter: Adapter }> {
  const model = await load()
  const strategy = lora({ r: 4, loraAlpha: 8, initLoraWeights: false })
  return { model, adapter: await model.attach(strategy, { seed: 3 }) }
}

const END = 2

describe('sample', () => {
  test('log-probabilities are those of the adapter on the same rows, at the same temperature', async () => {
    const { model, adapter } = await attach()
    for (const temperature of [1, 0.7, 2]) {
      const options = { n: 3, temperature, maxNewTokens: 20, seed: 5 }
      const answers = (await model.sample(['Colour of sky?', 'And of sea?'], options)).flat()
      expect(answers).toHaveLength(6)
      const { logprobs } = await adapter.forward(answers, { temperature })
      for (const [i, { tokens, weights, logprobs: own }] of answers.entries())
        for (const [t, weight] of weights.entries()) {
          // Decoding with a cache rounds in another order; measured at most 7.4e-6.
          const expected = weight === 0 ? 0 : (logprobs[i]?.[t] as number)
          expect(
            Math.abs((own?.[t] as number) - expected),
            `${i}, token ${t} of ${tokens.length}`,
          ).toBeLessThan(2e-5)
        }
    }
  })

  test('draws tokens as often as the model says', async () => {
    const { model } = await attach()
    const prompt = 'Colour of sky?'
    const n = 4000
    const [answers = []] = await model.sample([prompt], { n, maxNewTokens: 1, temperature: 1.3, seed: 1 })
    const drawn = new Map<number, number>()
    for (const { tokens } of answers) {
      const token = tokens.at(-1) as number
      drawn.set(token, (drawn.get(token) ?? 0) + 1)
    }
    const ids = answers[0]?.tokens.slice(0, -1) ?? new Int32Array()
    const logits = await model.logits(ids)
    const last = logits.slice(logits.length - logits.length / ids.length)
    const masses = [...last].map((logit) => Math.exp(logit / 1.3))
    const total = masses.reduce((sum, mass) => sum + mass, 0)
    // Rare tokens share a cell, since the statistic needs about five expected draws in each.
    let [statistic, cells, rareDrawn, rareExpected] = [0, 0, 0, 0]
    const add = (found: number, expected: number) => {
      statistic += (found - expected) ** 2 / expected
      cells++
    }
    for (const [token, mass] of masses.entries()) {
      const [found, expected] = [drawn.get(token) ?? 0, (n * mass) / total]
      if (expected >= 5) add(found, expected)
      else {
        rareDrawn += found
        rareExpected += expected
      }
    }
    if (rareExpected > 0) add(rareDrawn, rareExpected)
    const freedom = cells - 1
    expect(freedom).toBeGreaterThan(20)
    // The mean of the statistic is its degrees of freedom, its variance twice that.
    expect(Math.abs(statistic - freedom)).toBeLessThan(3.5 * Math.sqrt(2 * freedom))
  })

  test('is determined by the seed, whatever the number of answers', async () => {
    const { model } = await attach()
    const options = { maxNewTokens: 12, seed: 7 }
    const [four = []] = await model.sample(['a'], { ...options, n: 4 })
    const [two = []] = await model.sample(['a'], { ...options, n: 2 })
    expect(two).toEqual(four.slice(0, 2))
    expect(new Set(four.map(({ tokens }) => tokens.join())).size).toBe(4)
    const [other = []] = await model.sample(['a'], { ...options, n: 4, seed: 8 })
    expect(other.map(({ tokens }) => tokens.join())).not.toEqual(four.map(({ tokens }) => tokens.join()))
    expect(await model.sample([])).toEqual([])
  })

  test('scores the end token, but leaves it out of the text', async () => {
    const { model } = await attach()
    const [answers = []] = await model.sample(['a'], { n: 200, maxNewTokens: 8, seed: 2 })
    const ended = answers.filter(({ finishReason }) => finishReason === 'stop')
    expect(ended.length).toBeGreaterThan(0)
    for (const { tokens, weights, logprobs, text } of ended) {
      expect(tokens.at(-1)).toBe(END)
      expect(weights.at(-1)).toBe(1)
      expect(logprobs?.at(-1)).toBeLessThan(0)
      expect(text).not.toContain('<|im_end|>')
    }
  })

  test('an answer is a row of a policy gradient', async () => {
    const { model, adapter } = await attach()
    const [answers = []] = await model.sample(['a', 'b'], { n: 4, maxNewTokens: 6 })
    const rows = answers.map((answer, i) => ({ ...answer, advantages: i % 2 === 0 ? 1 : -1 }))
    const before = await adapter.forward(rows)
    await adapter.forwardBackward(rows, 'importance_sampling')
    await adapter.optimStep({ learningRate: 1e-4 })
    const after = await adapter.forward(rows)
    const sum = (row: Float64Array | undefined) => row?.reduce((all, value) => all + value, 0) ?? Number.NaN
    const gains = rows.map(({ advantages, tokens, weights }, i) => {
      const scored = (of: typeof before) => sum(of.logprobs[i]?.filter((_, t) => weights[t] === 1))
      return (advantages * (scored(after) - scored(before))) / tokens.length
    })
    expect(gains.reduce((all, gain) => all + gain, 0)).toBeGreaterThan(0)
  })

  test('can be stopped', async () => {
    const { model } = await attach()
    const controller = new AbortController()
    const sampling = model.sample(['a'], { n: 100, maxNewTokens: 100, signal: controller.signal })
    setTimeout(() => controller.abort(new Error('enough')), 20)
    await expect(sampling).rejects.toThrow('enough')
  })

  test.each([
    [['a'], { temperature: 0 }, 'sample(): temperature is 0, expected a number above 0, at most 100.'],
    [['a'], { n: 0 }, 'sample(): n is 0, expected a positive integer.'],
    [['a'], { topK: 5 }, 'sample(): topK is 5, expected 0: log-probabilities are those of all tokens'],
    [['a'], { topP: 0.5 }, 'sample(): topP is 0.5, expected 1: log-probabilities are those of all tokens'],
    [['a', ''], {}, 'sample(): the prompt is empty'],
    ['a', {}, 'sample(): prompts is "a", expected a list of prompts.'],
    [['a', 7], {}, 'sample(): prompts.1 is 7, expected a text, or a list of at least one message'],
  ])('%j with %j is an error', async (prompts, options, message) => {
    const { model } = await attach()
    const error = await model.sample(prompts as never, options).catch((caught: unknown) => caught)
    expect(error).toBeInstanceOf(ConfigError)
    expect((error as Error).message).toContain(message)
  })

  test('top-k and top-p are possible without log-probabilities', async () => {
    const { model } = await attach()
    const options = { topK: 1, logprobs: false, maxNewTokens: 8, n: 2 }
    const [[one, other] = []] = await model.sample(['a'], options)
    expect(one).not.toHaveProperty('logprobs')
    expect(one).toEqual(other)
    expect(one?.text).toBe((await model.generate('a', { maxNewTokens: 8 })).text)
  })
})
