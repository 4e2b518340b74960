/** Writes the tables of other programs' options in docs/coming-from.md, one for each group of lib/core/foreign-keys.ts. */
import { FOREIGN_KEYS } from '../dist/esm/core/foreign-keys.js'
import { table, withMarked } from './markdown.mjs'

/** The page with its tables updated from the data. */
export function withForeignTables(page, path) {
  const tables = Object.entries(FOREIGN_KEYS).map(([group, keys]) => [
    `options of others: ${group}`,
    table(
      ['option', 'in lowrank'],
      Object.entries(keys).map(([key, entry]) => [code(key), answer(entry)]),
    ),
  ])
  return withMarked(page, path, Object.fromEntries(tables))
}

const code = (text) => `\`${text}\``

function answer({ here, values = {}, note }) {
  const places = [here ?? []].flat().map(spelled)
  const written = Object.entries(values).map(
    ([there, value]) => `${code(there)} is ${value === null ? 'the default' : code(value)}`,
  )
  return [places.join(' or '), written.join(', '), note].filter(Boolean).join('; ').replaceAll('|', '\\|')
}

/** An option of text generation is a flag. */
function spelled(place) {
  const [, option] = /^generate\.(.*)$/.exec(place) ?? []
  // Strategies have their own names for their dropouts.
  if (place.includes('*')) return `the ${code(place.replace(/.*\*/, '…'))} of the strategy`
  return option === undefined ? code(place) : `${code(`--${option.replaceAll('_', '-')}`)} of generate`
}
