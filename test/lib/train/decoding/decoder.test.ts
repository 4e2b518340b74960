/** What decoding changes of the logits, and the log-probabilities that it returns. */
import { afterAll, describe, expect, it } from 'vitest'
import { loadModel } from '../../../../lib/index.js'
import { type AnswerSampling, Decoder } from '../../../../lib/train/decoding/decoder.js'
import { tinyModel } from '../../../e2e/tiny-model.js'

describe('a decoder', async () => {
  const model = await loadModel(tinyModel(), { precision: 'fp32' })
  afterAll(() => model.dispose())
  const prompt = Int32Array.of(5, 9, 30)
  const greedy = { temperature: 0, topK: 0, topP: 1, seed: 0 }

  async function drawn(sampling: AnswerSampling, count: number) {
    const decoder = await Decoder.open(model.base, [], prompt.length + count)
    const found: { token: number; logProb: number; top: number[]; topLogProbs: number[] }[] = []
    const onToken = (token: number, _: number, own: Parameters<NonNullable<typeof control.onToken>>[2]) => {
      if (own)
        found.push({ token, logProb: own.logProb, top: [...own.top], topLogProbs: [...own.topLogProbs] })
    }
    const control: import('../../../../lib/train/decoding/decoder.js').DecodeControl = {
      onToken,
      topLogProbs: 3,
    }
    for await (const _ of decoder.tokens(prompt, count, sampling, control)) if (found.length === count) break
    await decoder.close()
    return found
  }

  it('returns log-probabilities of the softmax of the logits, whatever is drawn from them', async () => {
    const logits = await model.logits(prompt)
    const last = [...logits.subarray((logits.length / 3) * 2)]
    const total = last.reduce((sum, logit) => sum + Math.exp(logit), 0)
    const order = last.map((_, id) => id).sort((a, b) => (last[b] as number) - (last[a] as number))
    const expected = (id: number) => Math.log(Math.exp(last[id] as number) / total)
    const unlikely = order.at(-1) as number
    for (const sampling of [
      { ...greedy, temperature: 1.7, topP: 0.5, seed: 3 },
      { ...greedy, logitBias: { ids: Int32Array.of(unlikely), values: Float32Array.of(100) } },
    ]) {
      const [first] = await drawn(sampling, 1)
      if ('logitBias' in sampling) expect(first?.token).toBe(unlikely)
      expect(first?.logProb).toBeCloseTo(expected(first?.token as number), 5)
      expect(first?.top).toEqual(order.slice(0, 3))
      for (const [index, id] of order.slice(0, 3).entries())
        expect(first?.topLogProbs[index]).toBeCloseTo(expected(id), 5)
    }
  })

  it('never repeats a token under a large penalty, of either kind', async () => {
    for (const penalty of [{ frequencyPenalty: 1000 }, { presencePenalty: 1000 }]) {
      const tokens = (await drawn({ ...greedy, ...penalty }, 40)).map(({ token }) => token)
      expect(new Set(tokens).size).toBe(40)
    }
  })
})
