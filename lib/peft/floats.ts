/** Converts between little-endian F32, F16, and BF16 bytes in adapter files and Float32Array. */
import { FileFormatError } from '../core/errors.js'
import { piecesOf, type TensorData } from '../formats/tensor-data.js'

const DTYPES = ['F32', 'F16', 'BF16']

/**
 * The values of a tensor as f32; a view of `bytes` if possible. Exact, since f32 contains every f16 and bf16 value.
 * @throws {FileFormatError} for any other dtype
 */
export function toFloat32(dtype: string, bytes: Uint8Array, what: string): Float32Array {
  if (dtype === 'F32') {
    // Avoid a copy if the bytes are aligned: copies of a whole adapter would count toward a run's memory until
    // collected.
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

/** The bytes of f32 values in file order. */
export function float32Bytes(values: Float32Array): Uint8Array {
  return new Uint8Array(values.buffer, values.byteOffset, values.byteLength)
}

/** f32 values converted to a dtype, rounded to nearest with ties to even. */
export function floatBytes(dtype: 'F32' | 'F16' | 'BF16', values: Float32Array): Uint8Array {
  return dtype === 'F32' ? float32Bytes(values) : halves(dtype, values, new Uint8Array(2 * values.length))
}

/**
 * Converts values chunk by chunk; each result is valid until the next is requested. All chunks share one buffer, since
 * separate buffers for a whole model would accumulate tens of megabytes of garbage.
 */
export async function* piecesInBytes(
  dtype: 'F32' | 'F16' | 'BF16',
  pieces: AsyncIterable<Float32Array>,
): AsyncGenerator<Uint8Array> {
  let room = new Uint8Array()
  for await (const piece of pieces) {
    if (dtype === 'F32') yield float32Bytes(piece)
    else {
      if (room.length < 2 * piece.length) room = new Uint8Array(2 * piece.length)
      yield halves(dtype, piece, room)
    }
  }
}

function halves(dtype: 'F16' | 'BF16', values: Float32Array, room: Uint8Array): Uint8Array {
  const bits = new Uint32Array(values.buffer, values.byteOffset, values.length)
  const round = dtype === 'BF16' ? floatToBfloatBits : floatToHalfBits
  const view = new DataView(room.buffer, room.byteOffset)
  for (let i = 0; i < bits.length; i++) view.setUint16(2 * i, round(bits[i] as number), true)
  return room.subarray(0, 2 * bits.length)
}

function floatToBfloatBits(bits: number): number {
  if ((bits & 0x7fffffff) > 0x7f800000) return (bits >>> 16) | 0x40 // NaN must stay NaN
  return (bits + 0x7fff + ((bits >>> 16) & 1)) >>> 16
}

function floatToHalfBits(bits: number): number {
  const sign = (bits >>> 16) & 0x8000
  const magnitude = bits & 0x7fffffff
  if (magnitude > 0x7f800000) return sign | 0x7e00
  if (magnitude >= 0x477ff000) return sign | 0x7c00 // rounds beyond the largest f16
  if (magnitude < 0x33000000) return sign // below half of the smallest subnormal
  const exponent = magnitude >>> 23
  const fraction = (magnitude & 0x7fffff) | 0x800000
  // An f16 has 10 fraction bits; a subnormal has one fewer for each exponent below 2^-14.
  const shift = exponent >= 113 ? 13 : 126 - exponent
  const kept = fraction >>> shift
  const rest = fraction & ((1 << shift) - 1)
  const tie = 1 << (shift - 1)
  const rounded = kept + (rest > tie || (rest === tie && (kept & 1) === 1) ? 1 : 0)
  return sign | (exponent >= 113 ? ((exponent - 113) << 10) + rounded : rounded)
}

function halfToFloatBits(half: number): number {
  const sign = (half & 0x8000) << 16
  const exponent = (half >> 10) & 0x1f
  const fraction = half & 0x3ff
  if (exponent === 0x1f) return sign | 0x7f800000 | (fraction << 13)
  if (exponent !== 0) return sign | ((exponent + 112) << 23) | (fraction << 13)
  if (fraction === 0) return sign
  // Subnormal: fraction * 2^-24, which is normal as an f32.
  const shift = Math.clz32(fraction) - 21
  return sign | ((113 - shift) << 23) | (((fraction << shift) & 0x3ff) << 13)
}

/** Transposes `[rows, cols]` to `[cols, rows]`. */
export function transposed(values: Float32Array, rows: number, cols: number): Float32Array {
  const out = new Float32Array(values.length)
  for (let row = 0; row < rows; row++)
    for (let col = 0; col < cols; col++) out[col * rows + row] = values[row * cols + col] as number
  return out
}

/** The transpose of an F32 tensor `[rows, cols]`, computed when it is written. */
export function transposedData(data: TensorData, { rows, cols }: { rows: number; cols: number }): TensorData {
  return async () => {
    const whole = new Uint8Array(rows * cols * 4)
    let at = 0
    for await (const piece of piecesOf(data)) {
      whole.set(piece, at)
      at += piece.length
    }
    return float32Bytes(transposed(toFloat32('F32', whole, 'a factor'), rows, cols))
  }
}
