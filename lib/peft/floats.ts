/** Arrays of adapter files in memory: little-endian F32, F16 and BF16 to Float32Array and back to bytes. */
import { FileFormatError } from '../errors.js'

const DTYPES = ['F32', 'F16', 'BF16']

/**
 * The numbers of a tensor as f32, a view of `bytes` where they are that already; exact, since every f16 and bf16 value
 * is an f32 value.
 * @throws {FileFormatError} for any other dtype
 */
export function toFloat32(dtype: string, bytes: Uint8Array, what: string): Float32Array {
  if (dtype === 'F32') {
    // A view where the bytes allow it: copies of a whole adapter would count in the memory of a run until collected.
    const aligned = bytes.byteOffset % 4 === 0 ? bytes : bytes.slice()
    return new Float32Array(aligned.buffer, aligned.byteOffset, aligned.byteLength / 4)
  }
  if (!DTYPES.includes(dtype))
    throw new FileFormatError(`${what} has the dtype ${dtype}, expected ${DTYPES.join(', ')}.`, {
      what,
      dtype,
    })
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  const bits = new Uint32Array(bytes.length / 2)
  for (let i = 0; i < bits.length; i++) {
    const half = view.getUint16(2 * i, true)
    bits[i] = dtype === 'BF16' ? half << 16 : halfToFloatBits(half)
  }
  return new Float32Array(bits.buffer)
}

/** The bytes of f32 numbers as files hold them. */
export function float32Bytes(values: Float32Array): Uint8Array {
  return new Uint8Array(values.buffer, values.byteOffset, values.byteLength)
}

function halfToFloatBits(half: number): number {
  const sign = (half & 0x8000) << 16
  const exponent = (half >> 10) & 0x1f
  const fraction = half & 0x3ff
  if (exponent === 0x1f) return sign | 0x7f800000 | (fraction << 13)
  if (exponent !== 0) return sign | ((exponent + 112) << 23) | (fraction << 13)
  if (fraction === 0) return sign
  // Subnormal: fraction * 2^-24, normal as an f32.
  const shift = Math.clz32(fraction) - 21
  return sign | ((113 - shift) << 23) | (((fraction << shift) & 0x3ff) << 13)
}
