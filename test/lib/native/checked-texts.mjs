// Continues a text in a process of its own, with LOWRANK_CHECK set before the engine reads it. Prints the ids.

import { loadModel } from '../../../dist/esm/index.js'
import { Decoder } from '../../../dist/esm/train/decoding/decoder.js'

const model = await loadModel(process.argv[2], { precision: 'fp32' })
const decoder = await Decoder.open(model.base, [], 64, 20)
const greedy = { temperature: 0, topK: 0, topP: 1, seed: 0 }
const ids = []
for await (const id of decoder.tokens(Int32Array.of(3, 5, 8, 13, 21), 3, greedy))
  if (ids.push(id) === 3) break
await decoder.close()
model.dispose()
console.log(JSON.stringify(ids))
