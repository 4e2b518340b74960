import { createHash } from 'node:crypto'

/** A symbol: its name and the byte that says what it is (<mach-o/nlist.h>). */
export type SymbolEntry = [name: string, type: number]

export const LOCAL = 0x0e
export const EXPORTED = 0x0f
export const IMPORTED = 0x01

const PAGE = 4096
const SHA256 = 32

const words = (...values: number[]) => Buffer.from(Uint32Array.from(values).buffer)

/** Big-endian, as signatures are. */
function bigWords(...values: number[]) {
  return words(...values).swap32()
}

const command = (code: number, ...values: number[]) => words(code, 8 + 4 * values.length, ...values)

const digest = (bytes: Buffer) => createHash('sha256').update(bytes).digest()

/** A signature as <Kernel/kern/cs_blobs.h> has it, with one code directory and no identity. */
function signature(signed: Buffer) {
  const pages = Array.from({ length: Math.ceil(signed.length / PAGE) }, (_, i) =>
    digest(signed.subarray(PAGE * i, PAGE * (i + 1))),
  )
  const length = 44 + SHA256 * pages.length
  const directory = [
    ...[0xfade0c02, length, 0x20100, 2, 44, 40, 0, pages.length, signed.length],
    ...[(SHA256 << 24) | (2 << 16) | 12, 0],
  ]
  return Buffer.concat([bigWords(0xfade0cc0, 20 + length, 1, 0, 20, ...directory), ...pages])
}

/** A signed library for Apple processors and macOS 11 that has nothing but symbols. */
export function machO(symbols: SymbolEntry[]) {
  const strings = Buffer.from(`\0${symbols.map(([name]) => `_${name}\0`).join('')}`)
  const table = symbols.map(([name, type]) => {
    const at = strings.indexOf(`\0_${name}\0`) + 1
    return Buffer.concat([words(at), Buffer.from([type, 1, 0, 0]), words(0, 0)])
  })
  const begin = 32 + 24 + 24 + 16
  const end = begin + 16 * table.length + strings.length
  const signed = Buffer.concat([
    words(0xfeedfacf, 0x100000c, 0, 6, 3, 24 + 24 + 16, 0, 0),
    command(0x32, 1, 0x000b0000, 0x000b0000, 0),
    command(0x2, begin, table.length, begin + 16 * table.length, strings.length),
    command(0x1d, end, 20 + 44 + SHA256 * Math.ceil(end / PAGE)),
    ...table,
    strings,
  ])
  return Buffer.concat([signed, signature(signed)])
}
