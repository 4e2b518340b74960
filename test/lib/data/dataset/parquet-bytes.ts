/** Writes small Parquet files byte by byte, as no writer would: with pages that stand for more than they hold. */

type Field = [id: number, type: number, value: unknown]
const [I32, I64, BINARY, LIST, STRUCT] = [5, 6, 8, 9, 12]

const varint = (value: number): Buffer => {
  const bytes: number[] = []
  let rest = value
  for (; rest > 127; rest = Math.floor(rest / 128)) bytes.push((rest % 128) | 128)
  return Buffer.of(...bytes, rest)
}

/** A value of Thrift's compact protocol. */
function element(type: number, value: unknown): Buffer {
  if (type === I32 || type === I64) return varint(2 * (value as number))
  if (type === BINARY) {
    const bytes = Buffer.from(value as string)
    return Buffer.concat([varint(bytes.length), bytes])
  }
  if (type === STRUCT) return struct(value as Field[])
  const { of, items } = value as { of: number; items: unknown[] }
  return Buffer.concat([
    Buffer.of(0xf0 | of),
    varint(items.length),
    ...items.map((item) => element(of, item)),
  ])
}

function struct(fields: Field[]): Buffer {
  let last = 0
  const parts = fields.map(([id, type, value]) => {
    const head = Buffer.of(((id - last) << 4) | type)
    last = id
    return Buffer.concat([head, element(type, value)])
  })
  return Buffer.concat([...parts, Buffer.of(0)])
}

export const PLAIN = 0
export const RLE_DICTIONARY = 8
export const DELTA_BYTE_ARRAY = 7

/** Bytes of a page, its size when unpacked, and what its header says. */
export interface Page {
  bytes: Buffer
  unpacked?: number
  values: number
  encoding: number
  isDictionary?: boolean
}

export interface Column {
  /** Default: the name of a column of required texts. */
  schema?: { name: string; repetition: number; children?: number; list?: boolean }[]
  path: string[]
  pages: Page[]
  codec?: number
  values: number
}

export const GZIP = 2
export const ZSTD = 6

function pageBytes({ bytes, unpacked = bytes.length, values, encoding, isDictionary }: Page): Buffer {
  const counts: Field[] = [
    [1, I32, values],
    [2, I32, encoding],
  ]
  const levels: Field[] = [
    [3, I32, 3],
    [4, I32, 3],
  ]
  const header = struct([
    [1, I32, isDictionary ? 2 : 0],
    [2, I32, unpacked],
    [3, I32, bytes.length],
    isDictionary ? [7, STRUCT, counts] : [5, STRUCT, [...counts, ...levels]],
  ])
  return Buffer.concat([header, bytes])
}

/** A file of one row group. */
export function parquetBytes(rows: number, columns: Column[]): Buffer {
  let offset = 4
  const chunks: Buffer[] = []
  const metas: Field[][] = []
  const schema: Field[][] = [
    [
      [4, BINARY, 'schema'],
      [5, I32, columns.filter(({ path }, i) => path[0] !== columns[i - 1]?.path[0]).length],
    ],
  ]
  for (const column of columns) {
    const { path, pages, codec = 0, values } = column
    for (const { name, repetition, children, list } of column.schema ?? [
      { name: path[0] as string, repetition: 0 },
    ])
      schema.push([
        ...(children === undefined ? [[1, I32, 6] as Field] : []),
        [3, I32, repetition],
        [4, BINARY, name],
        ...(children === undefined ? [] : [[5, I32, children] as Field]),
        ...(list ? [[6, I32, 3] as Field] : children === undefined ? [[6, I32, 0] as Field] : []),
      ])
    const bytes = Buffer.concat(pages.map(pageBytes))
    const unpacked = pages.reduce((sum, page) => sum + (page.unpacked ?? page.bytes.length), 0)
    const first = pages[0]?.isDictionary ? pageBytes(pages[0] as Page).length : 0
    metas.push([
      [1, I32, 6],
      [2, LIST, { of: I32, items: [0] }],
      [3, LIST, { of: BINARY, items: path }],
      [4, I32, codec],
      [5, I64, values],
      [6, I64, unpacked + 1000],
      [7, I64, bytes.length],
      [9, I64, offset + first],
      ...(first > 0 ? [[11, I64, offset] as Field] : []),
    ])
    chunks.push(bytes)
    offset += bytes.length
  }
  const group: Field[] = [
    [
      1,
      LIST,
      {
        of: STRUCT,
        items: metas.map((meta): Field[] => [
          [2, I64, 4],
          [3, STRUCT, meta],
        ]),
      },
    ],
    [2, I64, offset],
    [3, I64, rows],
  ]
  const footer = struct([
    [1, I32, 1],
    [2, LIST, { of: STRUCT, items: schema }],
    [3, I64, rows],
    [4, LIST, { of: STRUCT, items: [group] }],
  ])
  const size = Buffer.alloc(4)
  size.writeUInt32LE(footer.length)
  const mark = Buffer.from('PAR1')
  return Buffer.concat([mark, ...chunks, footer, size, mark])
}

/** A text as PLAIN has it. */
export function plainText(text: Uint8Array): Buffer {
  const size = Buffer.alloc(4)
  size.writeUInt32LE(text.length)
  return Buffer.concat([size, text])
}

/** A run of equal integers, for the width of a byte. */
export const run = (count: number, value: number): Buffer =>
  Buffer.concat([varint(2 * count), Buffer.of(value)])

/** Integers as differences: the first one, and a second one that all others equal. */
export function deltas(count: number, first: number, others: number): Buffer {
  const zigzag = (value: number) => varint(value < 0 ? -2 * value - 1 : 2 * value)
  const least = Math.min(0, others - first)
  const perBlock = 128
  const bits = Buffer.alloc(2 * perBlock)
  for (let i = 0; i < perBlock; i++) bits.writeUInt16LE((i === 0 ? others - first : 0) - least, 2 * i)
  const blocks = Math.max(0, Math.ceil((count - 1) / perBlock) - 1)
  return Buffer.concat([
    ...[varint(perBlock), varint(1), varint(count), zigzag(first)],
    ...[zigzag(least), Buffer.of(16), bits],
    // Blocks of equal integers take two bytes.
    ...Array<Buffer>(blocks).fill(Buffer.of(0, 0)),
  ])
}
