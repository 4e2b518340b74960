/**
 * Streams an answer, with a trained adapter and without it; Ctrl-C stops it.
 *
 *   node examples/generate.mjs models/SmolLM2-135M-Instruct out "Why is the sky blue?"
 */
import { loadModel } from 'lowrank'

const [path, folder, question] = process.argv.slice(2)
if (!path || !folder || !question) {
  console.error('usage: node examples/generate.mjs MODEL ADAPTER "QUESTION"')
  process.exit(2)
}

const controller = new AbortController()
process.once('SIGINT', () => controller.abort(new Error('stopped')))

const model = await loadModel(path)
try {
  const adapter = await model.loadAdapter(folder)
  for (const adapters of [[], [adapter]]) {
    console.log(adapters.length === 0 ? 'The model alone:' : '\nWith the adapter:')
    const messages = [{ role: 'user', content: question }]
    const options = {
      adapters,
      maxNewTokens: 64,
      temperature: 0.7,
      topP: 0.9,
      seed: 1,
      signal: controller.signal,
    }
    for await (const text of model.stream(messages, options)) process.stdout.write(text)
    console.log()
  }
} finally {
  await model.dispose()
}
