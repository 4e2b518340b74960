// Writes an adapter and the logits that it gives, for check_roundtrip.py:
//
//   node test/parity/write_adapter.mjs BASE OUTPUT [OPTIONS]
//
// BASE is a model folder of test/parity/models, OPTIONS a JSON object for lora(). The adapter (B filled, not zero) goes
// to OUTPUT/adapter, the logits of the golden batch's first sequence to OUTPUT/logits.safetensors.
import { mkdir } from 'node:fs/promises'
import { basename, join } from 'node:path'
import { readSafetensorsHeader, readTensor, writeSafetensors } from '../../dist/esm/files/safetensors.js'
import { loadModel, lora } from '../../dist/esm/index.js'

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
  const adapter = await model.attach(
    lora({ r: 4, loraAlpha: 8, targetModules: 'all-linear', ...JSON.parse(options) }),
  )
  for (const { name } of adapter.state.description.spec.parameters)
    if (name.includes('lora_B')) adapter.state.native.fill(name, { kind: 'normal', std: 0.1, seed: 5 })
  await adapter.save(join(output, 'adapter'))
  const logits = await model.logits(tokens, { adapters: [adapter] })
  const bytes = (array) => new Uint8Array(array.buffer, array.byteOffset, array.byteLength)
  await writeSafetensors(join(output, 'logits.safetensors'), [
    { name: 'input_ids', dtype: 'I32', shape: [length], data: bytes(tokens) },
    { name: 'logits', dtype: 'F32', shape: [length, logits.length / length], data: bytes(logits) },
  ])
} finally {
  await model.dispose()
}
