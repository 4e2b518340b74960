// Writes a quantized model with an adapter merged into its codes, and the logits that it gives, for check_quantized.py:
//
//   node test/parity/write_quantized.mjs BASE OUTPUT TYPE
//
// BASE is a model folder of test/parity/models, TYPE nf4, fp4 or int8. The folder goes to OUTPUT/model, the logits of the
// golden batch's first sequence to OUTPUT/logits.safetensors.
import { mkdir } from 'node:fs/promises'
import { basename, join } from 'node:path'
import { readSafetensorsHeader, readTensor, writeSafetensors } from '../../dist/esm/formats/safetensors.js'
import { loadModel, lora } from '../../dist/esm/index.js'

const [base, output, type] = process.argv.slice(2)
const golden = await readSafetensorsHeader(
  join(import.meta.dirname, 'golden', `${basename(base)}.safetensors`),
)
const ids = async (name) => new Int32Array(Uint8Array.from(await readTensor(golden, name)).buffer)
const length = (await ids('cu_seqlens'))[1]
const tokens = (await ids('input_ids')).slice(0, length)

await mkdir(output, { recursive: true })
const model = await loadModel(base, { precision: 'fp32', quantization: type })
const adapter = await model.attach(lora({ r: 4, loraAlpha: 8, targetModules: 'all-linear' }))
for (const { name, initializer } of adapter.state.description.factors)
  if (initializer.kind === 'zeros') adapter.state.native.fill(name, { kind: 'normal', std: 0.1, seed: 5 })
await adapter.merge(join(output, 'model'), { dtype: type, maxLoss: 1, check: false })
await model.dispose()

const written = await loadModel(join(output, 'model'), { precision: 'fp32' })
const logits = await written.logits(tokens)
const bytes = (array) => new Uint8Array(array.buffer, array.byteOffset, array.byteLength)
await writeSafetensors(join(output, 'logits.safetensors'), [
  { name: 'input_ids', dtype: 'I32', shape: [length], data: bytes(tokens) },
  { name: 'logits', dtype: 'F32', shape: [length, logits.length / length], data: bytes(logits) },
])
await written.dispose()
