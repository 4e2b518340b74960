/** Results of llama.cpp for a file, through node-llama-cpp, on the CPU. */
import { getLlama, type Llama, LlamaLogLevel, type Token } from 'node-llama-cpp'

let instance: Promise<Llama> | undefined

function llamaCpp(): Promise<Llama> {
  instance ??= getLlama({
    gpu: false,
    build: 'never',
    logLevel: LlamaLogLevel.error,
    maxThreads: 2,
  })
  return instance
}

export interface LlamaCppRun {
  /** Of each text, special tokens in it recognized. */
  ids: number[][]
  /** Natural logarithms of the probabilities of the next token, at every position of `prompt`. */
  logProbabilities: Map<number, number>[]
  /** Ids that follow `prompt`, the likeliest one each time. */
  greedy: number[]
  trainContextSize: number
}

/** Loads a GGUF file and asks it for all of that. */
export async function runLlamaCpp(
  modelPath: string,
  {
    texts = [],
    prompt,
    tokens = 0,
    lora,
  }: { texts?: string[]; prompt: number[]; tokens?: number; lora?: string },
): Promise<LlamaCppRun> {
  const llama = await llamaCpp()
  const model = await llama.loadModel({ modelPath, ignoreMemorySafetyChecks: true })
  try {
    const ids = texts.map((text) => model.tokenize(text, true, 'trimLeadingSpace').map(Number))
    const context = await model.createContext({
      contextSize: 256,
      flashAttention: false,
      ignoreMemorySafetyChecks: true,
      ...(lora === undefined ? {} : { lora }),
    })
    const sequence = context.getSequence()
    const evaluated = await sequence.controlledEvaluate(
      prompt.map((id) => [
        id as Token,
        { generateNext: { probabilities: true, options: { temperature: 1, topK: 0, topP: 1, minP: 0 } } },
      ]),
    )
    const logProbabilities = evaluated.map(
      (at) => new Map([...(at?.next.probabilities ?? [])].map(([id, p]) => [Number(id), Math.log(p)])),
    )
    await sequence.clearHistory()
    const greedy: number[] = []
    if (tokens > 0)
      for await (const id of sequence.evaluate(prompt as Token[], { temperature: 0 })) {
        greedy.push(Number(id))
        if (greedy.length === tokens) break
      }
    return { ids, logProbabilities, greedy, trainContextSize: model.trainContextSize }
  } finally {
    await model.dispose()
  }
}
