/** Several sampled answers to each prompt, with the log-probabilities of their tokens, for policy-gradient training. */
import { type ActiveAdapter, type BaseModel, checkWritesText } from '../../base/base.js'
import { abortSignal, badArgument } from '../../core/arguments.js'
import { flag, integer, numberWithin } from '../../core/schema.js'
import { drawBelow } from '../../data/permutation.js'
import type { WorkerTokenizer } from '../../data/worker-tokenizer.js'
import { Decoder } from '../decoding/decoder.js'
import { endIds, formatOf, type PromptOptions, promptIds, promptShape } from '../rows/prompting.js'
import {
  answerRoom,
  decodeText,
  type GenerateOptions,
  type Generation,
  generateSchema,
  lastOf,
  type Prompt,
  withCalls,
} from './generate.js'

/** Options of sampling. */
export interface SamplingOptions
  extends Pick<GenerateOptions, 'maxNewTokens' | 'topK' | 'topP' | 'seed' | 'stop' | 'keepSpecialTokens'> {
  /** Answers per prompt. Default 1. */
  readonly n: number
  /** Sampling temperature, above 0. Default 1. */
  readonly temperature: number
  /** Return log-probabilities, which `topK` and `topP` would make those of another distribution. Default true. */
  readonly logprobs: boolean
}

/** A sampled answer, which is also a row for `forwardBackward`. */
export interface Sample {
  /** Text of the answer, without the end token. */
  text: string
  /** `stop` at an end token or stop text, `length` at the limit. */
  finishReason: Generation['finishReason']
  /** Tokens of the prompt, then all tokens drawn, including the end token. */
  tokens: Int32Array
  /** 0 for each token of the prompt, 1 for each drawn token. */
  weights: Float64Array
  /**
   * Log-probability of each drawn token in nats, at the sampling temperature; 0 for the prompt. Absent with
   * `logprobs: false`.
   */
  logprobs?: Float64Array
}

export const samplingSchema = generateSchema.extend({
  n: integer(1).default(1),
  temperature: numberWithin(Number.MIN_VALUE, 100, 'a number above 0, at most 100').default(1),
  logprobs: flag().default(true),
  signal: abortSignal().optional(),
  ...promptShape,
})

/** Draws below this bound seed the answers. */
export const SEEDS = 2 ** 32
const NAME = 'sample()'

/** Draws one answer to a prompt. */
export async function drawAnswer(
  decoder: Decoder,
  tokenizer: WorkerTokenizer,
  prompt: Int32Array,
  ends: ReadonlySet<number>,
  limit: number,
  options: GenerateOptions,
  signal: AbortSignal | undefined,
): Promise<Required<Sample>> {
  const drawn: [token: number, logProb: number][] = []
  const control = { signal, onToken: (token: number, logProb: number) => void drawn.push([token, logProb]) }
  const answer = decodeText(decoder, tokenizer, prompt, ends, limit, options, control)
  const { text, finishReason } = await lastOf(answer)
  const after = (values: number[]) => Float64Array.of(...new Float64Array(prompt.length), ...values)
  return {
    text,
    finishReason,
    tokens: Int32Array.of(...prompt, ...drawn.map(([token]) => token)),
    weights: after(drawn.map(() => 1)),
    logprobs: after(drawn.map(([, logProb]) => logProb)),
  }
}

/**
 * Samples answers, each with its own seed, so that an answer does not depend on the number of answers. An abort
 * rejects with the signal's reason.
 * @returns the answers to each prompt
 * @throws {ConfigError} for an empty or too long prompt, or log-probabilities of a truncated distribution
 */
export async function sampleAnswers(
  base: BaseModel,
  adapters: readonly ActiveAdapter[],
  prompts: readonly Prompt[],
  given: SamplingOptions & PromptOptions & { signal?: AbortSignal | undefined },
): Promise<Sample[][]> {
  checkWritesText(base, NAME)
  const { n, seed, logprobs, signal, chatTemplate, system, tools, ...sampling } = given
  const options = withCalls(sampling, tools)
  for (const [key, value, off] of [
    ['topK', options.topK, 0],
    ['topP', options.topP, 1],
  ] as const)
    if (logprobs && value !== off)
      throw badArgument(
        value,
        NAME,
        key,
        `${off}: log-probabilities are those of all tokens; or set logprobs: false`,
      )
  const tokenizer = await base.tokenizer()
  const format = formatOf(base, adapters)
  const ends = await endIds(tokenizer, format)
  const how = { chatTemplate, system, tools, signal, name: NAME }
  const asked: { ids: Int32Array; limit: number }[] = []
  for (const prompt of prompts) {
    const ids = await promptIds(base, tokenizer, prompt, format, how)
    asked.push({ ids, limit: Math.min(options.maxNewTokens, answerRoom(base, ids, NAME)) })
  }
  if (asked.length === 0) return []
  const capacity = Math.max(...asked.map(({ ids, limit }) => ids.length + limit))
  const decoder = await Decoder.open(base, adapters, capacity)
  try {
    const found: Sample[][] = []
    for (const [index, { ids, limit }] of asked.entries()) {
      const answers: Sample[] = []
      for (let answer = 0; answer < n; answer++) {
        signal?.throwIfAborted()
        const own = { ...options, seed: drawBelow(SEEDS, seed, index, answer) }
        const { logprobs: drawn, ...sample } = await drawAnswer(
          decoder,
          tokenizer,
          ids,
          ends,
          limit,
          own,
          signal,
        )
        answers.push(logprobs ? { ...sample, logprobs: drawn as Float64Array } : sample)
      }
      found.push(answers)
    }
    return found
  } finally {
    await decoder.close()
  }
}
