// Runs of every task but causal_lm, and of what makes training noisy.
import * as lib from '../../../dist/esm/index.js'

const words = ['red', 'blue', 'a dark green', 'no color', 'black', 'very light', 'white', 'gray']
const asking = words.map((word, i) => ({ prompt: `Color of ${i}?`, completion: ` It is ${word}.` }))
const pairs = asking.map(({ prompt, completion }, i) => ({
  ...{ prompt, chosen: completion, rejected: ` ${i} is odd.` },
}))
const judged = asking.map((row, i) => ({ ...row, label: i % 2 === 0 }))
const classed = words.map((text, i) => ({ text, label: ['warm', 'cold'][i % 2] }))
const capitals = ({ prediction }) => [...prediction].filter((c) => c >= 'A' && c <= 'Z').length

// Learning rates change each parameter by much more than its rounding.
export const runs = {
  dpo: [{ task: 'dpo', learningRate: 0.03 }, pairs],
  ipo: [{ task: 'dpo', lossType: 'ipo', gradientAccumulationSteps: 2, learningRate: 0.01 }, pairs],
  orpo: [{ task: 'orpo' }, pairs],
  kto: [{ task: 'kto', gradientAccumulationSteps: 2, learningRate: 1 }, judged],
  classification: [
    {
      task: 'classification',
      gradientAccumulationSteps: 2,
      learningRate: 0.03,
      classWeights: { warm: 1, cold: 2 },
    },
    classed,
  ],
  grpo: [
    { task: 'grpo', rewardFunctions: capitals, numGenerations: 4, maxCompletionLength: 4, learningRate: 1 },
    asking,
  ],
  smoothing: [{ labelSmoothingFactor: 0.2 }, asking],
  neftune: [{ neftuneNoiseAlpha: 5 }, asking],
}

/** A loaded model with an adapter, and a function that begins its run with more options. */
export async function opened(model, precision, name, device) {
  const [of, rows] = runs[name]
  const labels = of.task === 'classification' ? { labels: ['warm', 'cold'] } : {}
  const loaded = await lib.loadModel(model, { precision, device, ...labels })
  const adapter = await loaded.attach(lib.lora({ r: 2, loraAlpha: 4 }), { seed: 1 })
  const options = {
    ...{ perDeviceTrainBatchSize: 4, maxSeqLength: 32, chatTemplate: false, evalFraction: 0, seed: 7 },
    // Plain descent changes each parameter by a multiple of its gradient.
    ...{ optimizer: 'sgd', learningRate: 0.1, maxGradNorm: 0, lrSchedulerType: 'constant', maxSteps: 2 },
  }
  return { loaded, adapter, train: (more) => adapter.train(rows, { ...options, ...of, ...more }) }
}
