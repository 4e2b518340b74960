// Custom training loops with each loss on the CPU and on the first GPU (both-devices.mjs). Arguments: a model and a precision.
import * as lib from '../../../dist/esm/index.js'
import { compareDevices, stepsOf } from './both-devices.mjs'

const [model, precision] = process.argv.slice(2)

function row(seed, length) {
  const tokens = Array.from({ length }, (_, i) => 3 + ((i * 37 + seed * 11) % 200))
  const weights = tokens.map((_, i) => (i < 3 ? 0 : 1 + (i % 2)))
  const reference = -6 * weights.reduce((sum, weight) => sum + weight, 0)
  return { tokens, weights, reference, advantages: seed - 2.5, label: seed % 2 === 0 }
}
const rows = [row(1, 9), row(2, 14), row(3, 6), row(4, 11)]
const pairs = [
  { chosen: rows[0], rejected: rows[1] },
  { chosen: rows[2], rejected: rows[3] },
]
/** Minus the sum of squared log-probabilities. */
const squares = (scored) => ({
  loss: scored.reduce(
    (sum, { logprobs }) => sum - logprobs.reduce((all, value) => all + 0.01 * value * value, 0),
    0,
  ),
  gradient: scored.map(({ logprobs }) => [...logprobs].map((value) => -0.02 * value)),
})
const losses = {
  cross_entropy: ['cross_entropy', rows],
  dpo: ['dpo', pairs],
  orpo: ['orpo', pairs],
  kto: [{ name: 'kto', kl: 0.5 }, rows],
  importance_sampling: ['importance_sampling', rows],
  function: [squares, rows],
}

/** Two steps, in which a parameter changes nearly by a multiple of its gradient. */
async function* stepsWith(adapter, loss, batch) {
  for (let step = 0; step < 2; step++) {
    const made = await adapter.forwardBackward(batch, loss, {
      temperature: 1.5,
      microBatchTokens: 30,
    })
    await adapter.optimStep({ learningRate: 1, eps: 10 })
    yield made
  }
}

for (const [name, [loss, batch]] of Object.entries(losses))
  await compareDevices(name, async (device) => {
    const loaded = await lib.loadModel(model, { precision, device })
    const adapter = await loaded.attach(lib.lora({ r: 2, loraAlpha: 4, loraDropout: 0.2 }), { seed: 1 })
    const made = await stepsOf(adapter, stepsWith(adapter, loss, batch))
    await loaded.dispose()
    return made
  })
