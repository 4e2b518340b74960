/** Schemas of the subset that grammars follow, and a validator of them. */
import { Ajv2020 } from 'ajv/dist/2020.js'

type Schema = Record<string, unknown>

const FORMATS = {
  // Days that a month lacks are in the next one.
  date: (text: string) =>
    /^\d{4}-\d\d-\d\d$/.test(text) && new Date(`${text}T00:00Z`).getUTCDate() === Number(text.slice(8)),
  'date-time': (text: string) => !Number.isNaN(Date.parse(text)),
  time: /^\d\d:[0-5]\d:[0-5]\d(\.\d+)?(Z|[+-]\d\d:\d\d)$/,
  duration: /^P(?!$)(\d+Y)?(\d+M)?(\d+W)?(\d+D)?(T(?=\d)(\d+H)?(\d+M)?(\d+S)?)?$/,
  email: /^[\w!#$%&'*+/=?^`{|}~.-]+@[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)+$/,
  hostname: /^[A-Za-z0-9-]{1,63}(\.[A-Za-z0-9-]{1,63})*$/,
  uuid: /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i,
  ipv4: /^((25[0-5]|(2[0-4]|1\d|[1-9]|)\d)\.?\b){4}$/,
  ipv6: (text: string) => URL.canParse(`http://[${text}]/`),
}

export const ajv = new Ajv2020({ strict: false, formats: FORMATS })

const LEAVES: Schema[] = [
  { type: 'string', minLength: 1, maxLength: 12 },
  { type: 'integer', minimum: 2024, maximum: 2040 },
  { type: 'number', minimum: -1.5, exclusiveMaximum: 99.25 },
  { enum: ['red', 'green "dark"', 3, null] },
  { type: 'string', pattern: '^[A-Z][a-zé]{2,6}(-\\d+)?$', maxLength: 12 },
  { type: 'string', format: 'date' },
  { type: ['boolean', 'null'] },
  {
    type: 'array',
    items: { type: 'integer', multipleOf: 5, minimum: 0, maximum: 100 },
    minItems: 1,
    maxItems: 3,
  },
  { type: 'string', format: 'date-time' },
  { anyOf: [{ type: 'string', format: 'uuid' }, { type: 'null' }] },
  { type: 'string', format: 'ipv4' },
  { type: 'string', format: 'email', maxLength: 40 },
]

/** An object with a number of fields, four deep, of every kind of leaf. */
export function wide(fields: number): Schema {
  const group = (from: number, to: number, depth: number): Schema => {
    const properties: Schema = {}
    for (let i = from; i < to; i++) properties[`field_${i}`] = LEAVES[i % LEAVES.length]
    if (depth > 1) {
      const inner = from + Math.ceil((to - from) / depth)
      for (let i = inner; i < to; i++) delete properties[`field_${i}`]
      properties.inner = group(inner, to, depth - 1)
    }
    const required = Object.keys(properties).filter((_, index) => index % 4 !== 1)
    return { type: 'object', properties, required, additionalProperties: false }
  }
  return group(0, fields, 4)
}

const NAMES = ['id', 'name', 'note', 'née', 'a b', 'x-y', '"', '\\', '__proto', '日本', 'ids', 'i']
const PATTERNS = [
  '^(a|bc)*$',
  '^\\w+$',
  '^[^"\\\\]{1,3}$',
  'b',
  '^\\s?\\S{2}$',
  '^(\\d{1,3},?)+$',
  '^x{0,2}.$',
]

/** A schema drawn by numbers from 0 to 1, at most four deep. */
export function drawnSchema(random: () => number): Schema {
  const pick = <T>(list: readonly T[]): T => list[Math.floor(random() * list.length)] as T
  const upTo = (most: number) => Math.floor(random() * (most + 1))
  const range = (scale: number, digits: number) => {
    const [a, b] = [random(), random()].map((x) => Number(((x - 0.5) * scale).toFixed(digits))) as [
      number,
      number,
    ]
    const low = { [pick(['minimum', 'exclusiveMinimum'])]: Math.min(a, b) }
    // Wide enough for a value between two bounds that are excluded.
    const high = { [pick(['maximum', 'exclusiveMaximum'])]: Math.max(a, b) + 2 }
    return pick([{}, low, high, { ...low, ...high }])
  }
  const kinds: Record<string, (depth: number) => Schema> = {
    leaf: () => pick(LEAVES),
    text: () => {
      const minLength = upTo(3)
      return {
        type: 'string',
        ...pick([{}, { minLength }, { maxLength: upTo(5) }, { minLength, maxLength: minLength + upTo(4) }]),
      }
    },
    pattern: () => ({ type: 'string', pattern: pick(PATTERNS) }),
    format: () => ({ type: 'string', format: pick(Object.keys(FORMATS)), maxLength: 50 }),
    integer: () => ({ type: 'integer', ...range(pick([10, 1000, 1e12]), 0) }),
    multiple: () => ({ type: 'integer', multipleOf: 1 + upTo(20), minimum: -upTo(50), maximum: upTo(500) }),
    number: () => ({ type: 'number', ...range(pick([0.01, 10, 1e6]), upTo(6)) }),
    constant: () => pick([{ const: { a: [null, 'é"'] } }, { enum: [-0.5, 1e21, [], {}, '\u0001\u2028'] }]),
    object: (depth) => {
      const properties: Schema = {}
      for (let i = upTo(4); i >= 0; i--) properties[pick(NAMES)] = drawn(depth + 1)
      const required = Object.keys(properties).filter(() => random() < 0.6)
      return { type: 'object', properties, required, additionalProperties: false }
    },
    map: (depth) => ({
      ...{ type: 'object', additionalProperties: drawn(depth + 1) },
      ...pick([{}, { propertyNames: { pattern: '^[a-z]{1,8}$' } }]),
    }),
    array: (depth) => {
      const minItems = upTo(2)
      return { type: 'array', items: drawn(depth + 1), minItems, maxItems: minItems + upTo(3) }
    },
    either: (depth) => ({ anyOf: [drawn(depth + 1), drawn(depth + 1)] }),
    again: () => ({ anyOf: [{ type: 'null' }, { $ref: '#' }] }),
    types: () => ({ type: ['null', 'string', 'integer'], maxLength: upTo(3), maximum: upTo(99) }),
  }
  const flat = ['leaf', 'text', 'pattern', 'format', 'integer', 'multiple', 'number', 'constant', 'types']
  const drawn = (depth: number): Schema => kinds[pick(depth < 4 ? Object.keys(kinds) : flat)]?.(depth) ?? {}
  return kinds.object?.(1) ?? {}
}

/** Numbers from 0 to 1, the same in every run. */
export function randomOf(seed: number): () => number {
  let state = seed
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0
    return state / 2 ** 32
  }
}
