/** Texts that are answered side by side: each gets what a decoder gives it alone. */
import { afterAll, describe, expect, it } from 'vitest'
import type { ActiveAdapter } from '../../../../lib/base/base.js'
import { dora, loadModel, lora, type StrategyConfig, vera } from '../../../../lib/index.js'
import { Batch, onlyAdds } from '../../../../lib/train/decoding/batch.js'
import { type AnswerSampling, Decoder, type Decodes } from '../../../../lib/train/decoding/decoder.js'
import { tinyModel } from '../../../e2e/tiny-model.js'

const greedy: AnswerSampling = { temperature: 0, topK: 0, topP: 1, seed: 0 }
const CAPACITY = 1200

interface Ask {
  prompt: Int32Array
  limit: number
  adapters: number[]
  sampling: AnswerSampling
}

function prompt(length: number, seed: number, vocab: number): Int32Array {
  return Int32Array.from({ length }, (_, i) => ((i + 1) * 7919 + seed * 104729) % vocab)
}

/** The tokens of an answer, and their log-probabilities. */
async function answer(decoder: Decodes, { prompt, limit, sampling }: Ask) {
  const logProbs: number[] = []
  const tokens: number[] = []
  const onToken = (_: number, logProb: number) => logProbs.push(logProb)
  for await (const token of decoder.tokens(prompt, limit, sampling, { onToken })) {
    tokens.push(token)
    if (tokens.length === limit) break
  }
  return { tokens, logProbs }
}

describe.each<{ precision: 'fp32' | 'bf16'; quantization: 'none' | 'nf4' }>([
  { precision: 'fp32', quantization: 'none' },
  { precision: 'bf16', quantization: 'none' },
  { precision: 'bf16', quantization: 'nf4' },
])('texts side by side, $precision of $quantization', async ({ precision, quantization }) => {
  const model = await loadModel(tinyModel(), { precision, quantization })
  const vocab = model.base.graph.vocabSize
  afterAll(() => model.dispose())

  /** An adapter whose factors are not zero. */
  async function attached(strategy: StrategyConfig, seed: number): Promise<ActiveAdapter> {
    const adapter = await model.attach(strategy, { seed })
    const rows = [
      {
        tokens: prompt(12, seed, vocab),
        weights: Float32Array.from({ length: 12 }, (_, i) => Math.min(i, 1)),
      },
    ]
    for (let step = 0; step < 3; step++) {
      await adapter.forwardBackward(rows, 'cross_entropy')
      await adapter.optimStep({ learningRate: 0.05 })
    }
    return { state: adapter.state, weight: 1, rank: null }
  }

  const adapters = await Promise.all([
    attached(lora({ r: 4, targetModules: 'all-linear' }), 1),
    attached(lora({ r: 9, loraAlpha: 13, targetModules: ['q_proj', 'down_proj'] }), 2),
    attached(vera({ r: 16 }), 3),
    attached(lora({ r: 2, useRslora: true }), 4),
  ])

  async function alone(ask: Ask) {
    const decoder = await Decoder.open(
      model.base,
      ask.adapters.map((at) => adapters[at] as ActiveAdapter),
      ask.prompt.length + ask.limit,
    )
    try {
      return await answer(decoder, ask)
    } finally {
      await decoder.close()
    }
  }

  const system = prompt(70, 99, vocab)
  const asks: Ask[] = [[], [0], [1], [2], [3], [0], [0, 1], [], [3], [1, 2, 3]].map((own, i) => ({
    prompt: Int32Array.from([...(i % 2 ? system : []), ...prompt(1 + ((i * 37) % 60), i, vocab)]),
    limit: 5 + 3 * i,
    adapters: own,
    sampling: i % 3 ? { ...greedy, temperature: 1, topP: 0.9, seed: i } : greedy,
  }))

  it('each get the tokens and log-probabilities that they get alone', async () => {
    const expected: Awaited<ReturnType<typeof alone>>[] = []
    for (const ask of asks) expected.push(await alone(ask))
    const batch = await Batch.open(model.base, adapters, CAPACITY, 8)
    try {
      for (const pause of [0, 7]) {
        const found = await Promise.all(
          asks.map(async (ask, i) => {
            await new Promise((resolve) => setTimeout(resolve, i * pause))
            return answer(batch.decoder(ask.adapters), ask)
          }),
        )
        expect(found).toEqual(expected)
      }
    } finally {
      await batch.close()
    }
  })

  it('each get those also where many of one adapter are beside each other', async () => {
    const same = Array.from({ length: 13 }, (_, i): Ask => {
      const own = i < 6 ? [1] : i < 12 ? [1, 2] : []
      return { prompt: prompt(3 + i, i, vocab), limit: 8, adapters: own, sampling: greedy }
    })
    const expected: Awaited<ReturnType<typeof alone>>[] = []
    for (const ask of same) expected.push(await alone(ask))
    const batch = await Batch.open(model.base, adapters, CAPACITY, same.length)
    try {
      const found = await Promise.all(same.map((ask) => answer(batch.decoder(ask.adapters), ask)))
      expect(found).toEqual(expected)
    } finally {
      await batch.close()
    }
  })

  it('reuse what a prompt has in common with another of the same adapters, and of no others', async () => {
    const batch = await Batch.open(model.base, adapters, CAPACITY, 4)
    try {
      const ask = (tail: number, own: number[]): Ask => ({
        ...{ prompt: Int32Array.from([...system, ...prompt(20, tail, vocab)]), limit: 4 },
        ...{ adapters: own, sampling: greedy },
      })
      const reused = async (one: Ask) => {
        const decoder = batch.decoder(one.adapters)
        expect(await answer(decoder, one)).toEqual(await alone(one))
        return decoder.reused
      }
      expect(await reused(ask(1, [0]))).toBe(0)
      expect(await reused(ask(2, [0]))).toBe(system.length)
      expect(await reused(ask(2, [1]))).toBe(0)
      expect(await reused(ask(2, []))).toBe(0)
      expect(await reused(ask(3, [1]))).toBe(system.length)
    } finally {
      await batch.close()
    }
  })

  it('take the place of a text whose prompt they go on with, and leave one that they share little with', async () => {
    const other = prompt(70, 98, vocab)
    const chat = async (batch: Batch, begin: Int32Array, ...rest: (Int32Array | number[])[]) => {
      const tokens = [begin, ...rest].flatMap((part) => [...part])
      const ask: Ask = { prompt: Int32Array.from(tokens), limit: 10, adapters: [0], sampling: greedy }
      const decoder = batch.decoder(ask.adapters)
      const found = await answer(decoder, ask)
      expect(found).toEqual(await alone(ask))
      return { reused: decoder.reused, tokens: found.tokens }
    }
    const [first, second] = [prompt(20, 1, vocab), prompt(20, 2, vocab)]
    // A copy of the first chat has room only where another one is kept.
    const narrow = await Batch.open(model.base, adapters, 300, 4)
    try {
      await chat(narrow, other, first)
      const { tokens } = await chat(narrow, system, first)
      expect((await chat(narrow, system, first, tokens, second)).reused).toBe(90)
      expect((await chat(narrow, other, second)).reused).toBe(70)
    } finally {
      await narrow.close()
    }
    const wide = await Batch.open(model.base, adapters, CAPACITY, 4)
    try {
      const { tokens } = await chat(wide, system, first)
      expect((await chat(wide, system, second)).reused).toBe(70)
      expect((await chat(wide, system, first, tokens, second)).reused).toBe(90)
    } finally {
      await wide.close()
    }
  })

  it('wait for room, and give it back when they are aborted', async () => {
    const batch = await Batch.open(model.base, adapters, 64, 4)
    try {
      const long: Ask = { prompt: prompt(40, 5, vocab), limit: 20, adapters: [0], sampling: greedy }
      const stop = new AbortController()
      const aborted = async () => {
        for await (const _ of batch.decoder([0]).tokens(long.prompt, 20, greedy, { signal: stop.signal }))
          stop.abort(new Error('enough'))
      }
      const refused = expect(aborted()).rejects.toThrow('enough')
      const second = answer(batch.decoder([0]), { ...long, prompt: prompt(40, 6, vocab) })
      await refused
      expect((await second).tokens).toHaveLength(20)
      expect(batch.size).toBe(0)
    } finally {
      await batch.close()
    }
  })

  it('end with an error when their batch is closed', async () => {
    const batch = await Batch.open(model.base, adapters, 64, 4)
    const texts = [1, 2].map((seed) =>
      answer(batch.decoder([0]), {
        prompt: prompt(40, seed, vocab),
        limit: 20,
        adapters: [0],
        sampling: greedy,
      }),
    )
    const refused = texts.map((text) => expect(text).rejects.toThrow('cannot go on'))
    await batch.close()
    await Promise.all(refused)
  })

  it('have adapters that only add, or all of the session', async () => {
    const scaled = await attached(dora({ r: 4 }), 5)
    const all = [...adapters, scaled]
    expect(all.map(onlyAdds)).toEqual([true, true, true, true, false])
    const batch = await Batch.open(model.base, all, CAPACITY, 4)
    try {
      const ask: Ask = { prompt: prompt(9, 1, vocab), limit: 3, adapters: [0], sampling: greedy }
      await expect(answer(batch.decoder([0]), ask)).rejects.toThrow('more than add to products')
      expect((await answer(batch.decoder([0, 1, 2, 3, 4]), ask)).tokens).toHaveLength(3)
    } finally {
      await batch.close()
    }
  })
})
