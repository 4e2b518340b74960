/**
 * Asks a model of this process by the AI SDK, without a server: a text while it comes, and an object that follows a schema.
 * Needs the packages ai and zod.
 *
 *   node examples/ai-in-process.mjs SmolLM2-135M-Instruct [ADAPTER]
 */
import { generateText, Output, streamText } from 'ai'
import { loadModel } from 'lowrank'
import { languageModel } from 'lowrank/ai'
import * as z from 'zod'

const [path, adapter] = process.argv.slice(2)
if (!path) {
  console.error('usage: node examples/ai-in-process.mjs MODEL [ADAPTER]')
  process.exit(2)
}

const loaded = await loadModel(path)
try {
  if (adapter) await loaded.loadAdapter(adapter)
  const model = languageModel(loaded)

  const { textStream } = streamText({
    ...{ model, prompt: 'Describe a boat.', temperature: 0, maxOutputTokens: 16 },
  })
  for await (const piece of textStream) process.stdout.write(piece)
  console.log()

  const Boat = z.object({ name: z.string().max(12), crew: z.int().min(1).max(9) })
  const { output } = await generateText({
    ...{ model, prompt: 'Describe a boat in JSON.', seed: 1, maxOutputTokens: 200 },
    output: Output.object({ schema: Boat }),
  })
  console.log(output)
} finally {
  await loaded.dispose()
}
