// Texts that are answered side by side: tokens per second of one text, and of several of the base, of one adapter, and
// of an adapter each.
//
//   npm run build && node benchmarks/side-by-side.mjs MODEL [--texts 16] [--tokens 40] [--rank 8] [--rounds 3]
//     [--quantization nf4]
//
// MODEL is a folder or a .gguf file. The four are interleaved; printed is the median of the rounds, and the ratio of the
// last to the one before it.
import { parseArgs } from 'node:util'
import { loadModel, lora } from '../dist/esm/index.js'
import { Batch } from '../dist/esm/train/decoding/batch.js'

const { values: options, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    texts: { type: 'string', default: '16' },
    tokens: { type: 'string', default: '40' },
    rank: { type: 'string', default: '8' },
    rounds: { type: 'string', default: '3' },
    quantization: { type: 'string', default: 'nf4' },
  },
})
if (positionals.length !== 1) throw new Error('name one model: node benchmarks/side-by-side.mjs MODEL')
const [texts, tokens, rounds] = [options.texts, options.tokens, options.rounds].map(Number)
const model = await loadModel(positionals[0], { quantization: options.quantization })
const adapters = []
for (let seed = 0; seed < texts; seed++) {
  const { state } = await model.attach(lora({ r: Number(options.rank) }), { seed })
  adapters.push({ state, weight: 1, rank: null })
}
const PROMPT = 12
const batch = await Batch.open(model.base, adapters, texts * (PROMPT + tokens), texts)
const greedy = { temperature: 0, topK: 0, topP: 1, seed: 0 }

async function answer(text, own) {
  const prompt = Int32Array.from({ length: PROMPT }, (_, at) => 10 + at + text)
  let count = 0
  for await (const _ of batch.decoder(own).tokens(prompt, tokens, greedy)) if (++count === tokens) return
}

/** Tokens per second. @param own numbers of the adapters of a text */
async function rate(count, own) {
  const begin = performance.now()
  await Promise.all(Array.from({ length: count }, (_, text) => answer(text, own(text))))
  return (count * tokens * 1000) / (performance.now() - begin)
}

const KINDS = {
  'one text of the base': () => rate(1, () => []),
  [`${texts} of the base`]: () => rate(texts, () => []),
  [`${texts} of one adapter`]: () => rate(texts, () => [0]),
  [`${texts} of an adapter each`]: () => rate(texts, (text) => [text]),
}
const rates = Object.fromEntries(Object.keys(KINDS).map((kind) => [kind, []]))
for (let round = 0; round < rounds; round++)
  for (const [kind, measure] of Object.entries(KINDS)) rates[kind].push(await measure())
const medians = Object.entries(rates).map(([kind, all]) => [
  kind,
  all.sort((a, b) => a - b)[Math.floor(rounds / 2)],
])
for (const [kind, median] of medians) console.log(`${kind}: ${median.toFixed(1)} tokens per second`)
console.log(`ratio: ${(medians[3][1] / medians[2][1]).toFixed(2)}`)
await batch.close()
await model.dispose()
