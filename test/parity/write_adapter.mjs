// Writes an adapter and the logits that it gives, for check_roundtrip.py:
//
//   node test/parity/write_adapter.mjs BASE OUTPUT [OPTIONS]
//
// BASE is a model folder of test/parity/models, OPTIONS a strategy as JSON, by default lora, with `format: "vllm"` to
// export it for vLLM instead of saving it. The adapter (what starts at
// zero or as a copy filled) goes to OUTPUT/adapter, the logits of the golden batch's first sequence to OUTPUT/logits.safetensors.
import { mkdir } from 'node:fs/promises'
import { basename, join } from 'node:path'
import { readSafetensorsHeader, readTensor, writeSafetensors } from '../../dist/esm/formats/safetensors.js'
import { loadModel, strategyFrom } from '../../dist/esm/index.js'

const [base, output, options = '{}'] = process.argv.slice(2)
const golden = await readSafetensorsHeader(
  join(import.meta.dirname, 'golden', `${basename(base)}.safetensors`),
)
const ids = async (name) => new Int32Array(Uint8Array.from(await readTensor(golden, name)).buffer)
const length = (await ids('cu_seqlens'))[1]
const tokens = (await ids('input_ids')).slice(0, length)

await mkdir(output, { recursive: true })
const model = await loadModel(base, { precision: 'fp32' })
try {
  const { format, ...given } = JSON.parse(options)
  const asked = { name: 'lora', ...given }
  const strategy = asked.name === 'lora' ? { r: 4, loraAlpha: 8, ...asked } : asked
  const adapter = await model.attach(strategyFrom(strategy))
  for (const { name, initializer } of adapter.state.description.factors)
    if (['zeros', 'weight'].includes(initializer.kind))
      adapter.state.native.fill(name, { kind: 'normal', std: 0.1, seed: 5 })
  const folder = join(output, 'adapter')
  if (format === undefined) await adapter.save(folder)
  else await adapter.export(folder, { format, check: false })
  const logits = await model.logits(tokens, { adapters: [adapter] })
  const bytes = (array) => new Uint8Array(array.buffer, array.byteOffset, array.byteLength)
  await writeSafetensors(join(output, 'logits.safetensors'), [
    { name: 'input_ids', dtype: 'I32', shape: [length], data: bytes(tokens) },
    { name: 'logits', dtype: 'F32', shape: [length, logits.length / length], data: bytes(logits) },
  ])
} finally {
  await model.dispose()
}
