/**
 * Writes a model with a trained adapter for other programs: one GGUF file in 8 bits, the adapter alone as GGUF, and a
 * folder for Ollama. Each is read back and compared.
 *
 *   node examples/export.mjs models/SmolLM2-135M-Instruct out exported
 */
import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { loadModel } from 'lowrank'

const [path, adapterFolder, output] = process.argv.slice(2)
if (!path || !adapterFolder || !output) {
  console.error('usage: node examples/export.mjs MODEL ADAPTER OUTPUT')
  process.exit(2)
}

await mkdir(output)
const model = await loadModel(path)
try {
  const adapter = await model.loadAdapter(adapterFolder)
  // The adapter may have been trained on the same model in 4 bits; this adds it to the weights of the files.
  const onto = 'original'
  const exports = [
    ['tuned.gguf', { format: 'gguf', dtype: 'q8_0', onto }],
    ['adapter.gguf', { format: 'gguf-lora' }],
    ['ollama', { format: 'ollama', onto }],
  ]
  for (const [name, options] of exports) {
    const { files, remarks, check } = await adapter.export(join(output, name), options)
    console.log(`${name} (${files.join(', ')}): KL divergence ${check.kl.toExponential(1)}`)
    for (const remark of remarks) console.log(`  note: ${remark}`)
  }
} finally {
  await model.dispose()
}
