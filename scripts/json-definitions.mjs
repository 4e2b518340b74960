/**
 * Shorter JSON schemas: a part that occurs more than once moves to `$defs`, and `$ref` stands in its places. What a
 * schema accepts, and the descriptions that editors show, stay the same.
 */

/** Parts shorter than this, as JSON, are repeated. */
const SHORTEST = 80

/**
 * @param schema JSON Schema (2020-12) without `$ref`
 * @returns the same schema with `$defs`, each named after its object's `name` or `type`, or after the property it describes
 */
export function withDefinitions(schema) {
  const counts = countParts(schema)
  const names = new Map()
  const definitions = {}

  function replace(part, property, owner) {
    const json = JSON.stringify(part)
    if (counts.get(json) === 1 || json.length < SHORTEST) return inside(part, property, owner)
    if (!names.has(json)) {
      const name = freeName(nameOf(part) ?? property, owner)
      names.set(json, name)
      definitions[name] = undefined
      definitions[name] = inside(part, property, owner)
    }
    return { $ref: `#/$defs/${names.get(json)}` }
  }

  const inside = (part, property, owner) =>
    mapParts(part, (inner, key) => replace(inner, key ?? property, nameOf(part) ?? owner))

  function freeName(name, owner) {
    const candidates = [name, ...(owner === undefined ? [] : [`${owner}.${name}`])]
    for (let count = 2; ; count++) {
      const free = candidates.find((candidate) => !(candidate in definitions))
      if (free !== undefined) return free
      candidates.push(`${name}.${count}`)
    }
  }

  const { $schema, ...rest } = inside(schema)
  return { $schema, ...rest, $defs: definitions }
}

/** Number of occurrences of each part of a schema, by its JSON; the inner parts of a repeated one count once. */
function countParts(schema, counts = new Map()) {
  mapParts(schema, (part) => {
    const json = JSON.stringify(part)
    counts.set(json, (counts.get(json) ?? 0) + 1)
    if (counts.get(json) === 1) countParts(part, counts)
    return part
  })
  return counts
}

/** The schema with each schema directly inside it replaced by `map(part, key)`; only properties have a key. */
function mapParts(schema, map) {
  const isSchema = (value) => typeof value === 'object' && value !== null && !Array.isArray(value)
  const entries = Object.entries(schema).map(([keyword, value]) => {
    if (keyword === 'properties')
      return [keyword, Object.fromEntries(Object.entries(value).map(([key, part]) => [key, map(part, key)]))]
    if (['anyOf', 'oneOf', 'prefixItems'].includes(keyword)) return [keyword, value.map((part) => map(part))]
    if (['items', 'additionalProperties'].includes(keyword) && isSchema(value)) return [keyword, map(value)]
    return [keyword, value]
  })
  return Object.fromEntries(entries)
}

const nameOf = ({ properties }) => properties?.name?.const ?? properties?.type?.const
