/** Damages that files from outside may have, by accident or on purpose; everything follows from the random numbers. */

/** Numbers that sit on the edges of formats and of what a machine can hold. */
const NUMBERS = [
  0,
  -1,
  1,
  3,
  255,
  65536,
  1e9,
  2 ** 31 - 1,
  2 ** 31,
  2 ** 32,
  2 ** 53,
  1e19,
  1e308,
  -1e9,
  0.5,
  1e-30,
]
const VALUES = [null, true, false, '', 'x', [], {}, [[]], ['x'], { x: 1 }, 'x'.repeat(100_000)]
/** Values that JSON.parse rejects, or reads as something else. */
const RAW = ['NaN', 'Infinity', '1e999', '-0', '{', ']', '"', '\\', '\u0000', '"\\ud800"', '/**/']

/** Characters of JSON that a repeated value makes. */
const LARGEST_REPEAT = 1e6

/** A generator of numbers from 0 to 1, the same for the same seed (mulberry32). */
export function randomFrom(seed) {
  let state = seed >>> 0
  const next = () => {
    state = (state + 0x6d2b79f5) >>> 0
    let mixed = Math.imul(state ^ (state >>> 15), state | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }
  const below = (count) => Math.floor(next() * count)
  return { next, below, pick: (list) => list[below(list.length)] }
}

/** Every place in a value that can be changed: its holder and its key. */
function placesOf(value) {
  const places = []
  const visit = (holder, key) => {
    places.push([holder, key])
    const inner = holder[key]
    if (typeof inner !== 'object' || inner === null) return
    // Of a vocabulary the first entries are enough.
    for (const one of Object.keys(inner).slice(0, 300)) visit(inner, one)
  }
  visit({ '': value }, '')
  return places
}

const CHANGES = {
  number: ({ holder, key, random }) => {
    holder[key] = random.pick(NUMBERS)
  },
  value: ({ holder, key, random }) => {
    holder[key] = random.pick(VALUES)
  },
  remove: ({ holder, key }) => {
    if (Array.isArray(holder)) holder.splice(Number(key), 1)
    else delete holder[key]
  },
  copy: ({ holder, key, random, places }) => {
    const [from, name] = random.pick(places)
    holder[key] = structuredClone(from[name])
  },
  rename: ({ holder, key, random, places }) => {
    holder[random.pick(places)[1]] = holder[key]
    if (!Array.isArray(holder)) delete holder[key]
  },
  nest: ({ holder, key, random }) => {
    for (let i = random.pick([1, 20, 1000]); i > 0; i--)
      holder[key] = random.below(2) ? [holder[key]] : { x: holder[key] }
  },
  repeat: ({ holder, key, random }) => {
    const room = LARGEST_REPEAT / (JSON.stringify(holder[key])?.length ?? 1)
    const count = Math.min(random.pick([2, 100, 10_000]), Math.ceil(room))
    holder[key] = Array.from({ length: count }, () => structuredClone(holder[key]))
  },
  text: ({ holder, key, random }) => {
    if (typeof holder[key] !== 'string') return
    const text = holder[key]
    const at = random.below(text.length + 1)
    holder[key] =
      text.slice(0, at) +
      random.pick(['(a+a+)+b', '{%', '%}', '{{', '*', '[', '\\p{L}', '\u0000', '../', '\ud800']) +
      text.slice(at)
  },
}

/** JSON text with some of its values changed; what is no JSON, or none when changed, has its bytes changed. */
export function mutateJson(text, random) {
  let changed
  try {
    changed = JSON.stringify(changedValue(JSON.parse(text), random)) ?? ''
  } catch (error) {
    if (![SyntaxError, RangeError, TypeError].some((kind) => error instanceof kind)) throw error
    return mutateBytes(Buffer.from(text), random)
  }
  if (random.below(8) === 0) {
    const at = random.below(changed.length + 1)
    changed = changed.slice(0, at) + random.pick(RAW) + changed.slice(at + random.below(3))
  }
  return Buffer.from(changed)
}

function changedValue(value, random) {
  const root = { '': value }
  for (let i = 1 + random.below(3); i > 0; i--) {
    const places = placesOf(root[''])
    places[0] = [root, '']
    const [holder, key] = random.pick(places)
    random.pick(Object.values(CHANGES))({ holder, key, random, places })
  }
  return root['']
}

/** @param most where damage is worth while: the bytes of a header and some of the data */
export function mutateBytes(whole, random, most = whole.length) {
  let bytes = Buffer.from(whole)
  for (let i = 1 + random.below(4); i > 0; i--) {
    const at = random.below(Math.min(most, bytes.length) + 1)
    const length = 1 + random.below(16)
    switch (random.below(7)) {
      case 0:
        if (at < bytes.length) bytes[at] ^= 1 << random.below(8)
        break
      case 1:
        bytes = bytes.subarray(0, at)
        break
      case 2:
        bytes = Buffer.concat([
          bytes.subarray(0, at),
          Buffer.alloc(length, random.below(256)),
          bytes.subarray(at),
        ])
        break
      case 3:
        bytes = Buffer.concat([bytes.subarray(0, at), bytes.subarray(at + length)])
        break
      case 4:
        bytes = Buffer.concat([bytes.subarray(0, at), bytes.subarray(at, at + length), bytes.subarray(at)])
        break
      case 5:
        bytes.fill(random.pick([0, 0xff, 0x7f, 0x80, 0x22]), at, Math.min(at + length, bytes.length))
        break
      default:
        if (at + 8 <= bytes.length)
          bytes.writeBigUInt64LE(BigInt.asUintN(64, BigInt(Math.trunc(random.pick(NUMBERS)))), at)
    }
  }
  return bytes
}

/** A safetensors file: its header as JSON with the length made to fit, or its bytes. */
export function mutateSafetensors(whole, random) {
  const length = Number(whole.readBigUInt64LE(0))
  if (random.below(3) === 0) return mutateBytes(whole, random, 8 + length + 64)
  const header = mutateJson(whole.toString('utf8', 8, 8 + length), random)
  const size = Buffer.alloc(8)
  size.writeBigUInt64LE(BigInt(header.length))
  return Buffer.concat([size, header, whole.subarray(8 + length)])
}

/** A Parquet file whose footer is still found: changed in its metadata, in its pages, or anywhere. */
export function mutateParquet(whole, random) {
  if (random.below(4) === 0) return mutateBytes(whole, random)
  const start = whole.length - 8 - whole.readUInt32LE(whole.length - 8)
  let [pages, footer] = [whole.subarray(4, start), whole.subarray(start, -8)]
  // Pages of another length move those behind them, so most changes keep it.
  if (random.below(2) === 0) pages = sameLength(mutateBytes(pages, random), pages.length)
  else footer = random.below(2) === 0 ? mutateBytes(footer, random) : stretched(footer, random)
  const size = Buffer.alloc(4)
  size.writeUInt32LE(footer.length)
  const mark = Buffer.from('PAR1')
  return Buffer.concat([mark, pages, footer, size, mark])
}

function sameLength(bytes, length) {
  return Buffer.concat([bytes.subarray(0, length), Buffer.alloc(Math.max(0, length - bytes.length))])
}

/** With one integer of the compact protocol as large as it may be. */
function stretched(bytes, random) {
  const at = random.below(bytes.length)
  const integer = random.pick([
    'ffffffff0f',
    'feffffff0f',
    '8080800f',
    'ffffffffffffffffff01',
    '80808080808080808001',
  ])
  return Buffer.concat([
    bytes.subarray(0, at),
    Buffer.from(integer, 'hex'),
    bytes.subarray(at + 1 + random.below(2)),
  ])
}
