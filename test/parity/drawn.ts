/**
 * Numbers that goldens start from, drawn by name as `drawn` of common.py draws them: the repository holds results alone.
 * Before all tests, vitest makes the models of models/drawn.json that are not there.
 */
import { createHash } from 'node:crypto'
import { existsSync, readFileSync, renameSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { counterUniforms } from '../../lib/core/counter-random.js'

const models = join(import.meta.dirname, 'models')

interface Described {
  sha256: string
  dtype: 'F32' | 'BF16'
  /** Shape, bound, and offset by the name of the weight, in the order of the file. */
  weights: Record<string, [number[], number, number]>
}

/** `count` uniform numbers in `offset` ± `bound`. */
export function drawn(name: string, count: number, bound: number, offset = 0): Float32Array {
  const uniform = counterUniforms(0, name)
  const values = new Float32Array(count)
  for (let i = 0; i < count; i++) values[i] = (2 * uniform(i) - 1) * bound + offset
  return values
}

/** What a factor of LoRA starts from in `lora/`: A and B are called as in PEFT's files. */
export function drawnFactor(caseName: string, tensor: string, rows: number, cols: number): Float32Array {
  return drawn(`${caseName}/${tensor}`, rows * cols, tensor.includes('lora_B') ? 0.2 : cols ** -0.5)
}

export default function setup(): void {
  const described: Record<string, Described> = JSON.parse(readFileSync(join(models, 'drawn.json'), 'utf8'))
  for (const [model, { sha256, dtype, weights }] of Object.entries(described)) {
    const hash = (bytes: Buffer) => createHash('sha256').update(bytes).digest('hex')
    const path = join(models, model, 'model.safetensors')
    if (existsSync(path) && hash(readFileSync(path)) === sha256) continue
    const bytes = fileOf(model, dtype, weights)
    if (hash(bytes) !== sha256) throw new Error(`${path} is not what make_models.py makes`)
    writeFileSync(`${path}.${process.pid}`, bytes)
    renameSync(`${path}.${process.pid}`, path)
  }
}

/** The bytes that transformers' `save_pretrained` writes. */
function fileOf(model: string, dtype: Described['dtype'], weights: Described['weights']): Buffer {
  const header: Record<string, object> = { __metadata__: { format: 'pt' } }
  const parts: Buffer[] = []
  let end = 0
  for (const [name, [shape, bound, offset]] of Object.entries(weights)) {
    const values = drawn(
      `${model}/${name}`,
      shape.reduce((a, b) => a * b),
      bound,
      offset,
    )
    const data = dtype === 'F32' ? values : toBfloat16(values)
    parts.push(Buffer.from(data.buffer))
    header[name] = { dtype, shape, data_offsets: [end, end + data.byteLength] }
    end += data.byteLength
  }
  const text = JSON.stringify(header)
  const padded = Buffer.from(text.padEnd(Math.ceil(text.length / 8) * 8))
  const size = Buffer.alloc(8)
  size.writeBigUInt64LE(BigInt(padded.length))
  return Buffer.concat([size, padded, ...parts])
}

/** Rounded to the nearest, ties to even. */
function toBfloat16(values: Float32Array): Uint16Array {
  return Uint16Array.from(
    new Uint32Array(values.buffer),
    (bits) => (bits + 0x7fff + ((bits >>> 16) & 1)) >>> 16,
  )
}
