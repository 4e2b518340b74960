/** Builds safetensors files, right or wrong in any detail, independently of the writer under test. */

export function safetensorsBytes(
  header: string | Uint8Array,
  data: Uint8Array | number = 0,
  claimedLength?: bigint,
): Uint8Array {
  const json = Buffer.from(header)
  const prefix = Buffer.alloc(8)
  prefix.writeBigUInt64LE(claimedLength ?? BigInt(json.length))
  return Buffer.concat([prefix, json, typeof data === 'number' ? Buffer.alloc(data) : data])
}

export interface Entry {
  dtype: string
  shape: number[]
  data_offsets: number[]
}

/** A file with one F32 tensor `w` of four elements, changed as told; as many data bytes as it should have. */
export function oneTensor(change: Partial<Entry> & Record<string, unknown> = {}, dataBytes = 16): Uint8Array {
  const entry = { dtype: 'F32', shape: [2, 2], data_offsets: [0, 16], ...change }
  return safetensorsBytes(JSON.stringify({ w: entry }), dataBytes)
}
