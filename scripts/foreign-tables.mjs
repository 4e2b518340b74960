/** Writes the tables of other programs' options in docs/coming-from.md, one for each topic of lib/core/foreign-options.ts. */
import { foreignKeys } from '../dist/esm/core/foreign-keys.js'
// Tasks and strategies have those of their own options.
import '../dist/esm/options/options.js'
import { table, withMarked } from './markdown.mjs'

/** The page with its tables updated from the data. */
export function withForeignTables(page, path) {
  const tables = [...foreignKeys].map(([group, keys]) => [
    `options of others: ${group}`,
    table(
      ['option', 'in lowrank'],
      Object.entries(keys).map(([key, entry]) => [code(key), answer(entry)]),
    ),
  ])
  return withMarked(page, path, Object.fromEntries(tables))
}

const code = (text) => `\`${text}\``

function answer({ here, values = {}, ours, note }) {
  const places = [here ?? []].flat().map(spelled)
  const written = Object.entries(values).map(
    ([there, value]) => `${code(there)} is ${value === null ? 'the default' : code(value)}`,
  )
  const same = ours && 'with the same values in lower case'
  return [places.join(' or '), same, written.join(', '), note]
    .filter(Boolean)
    .join('; ')
    .replaceAll('|', '\\|')
}

/** An option of text generation is a flag. */
function spelled(place) {
  const [, option] = /^generate\.(.*)$/.exec(place) ?? []
  // Strategies have their own names for their dropouts.
  if (place.includes('*')) return `the ${code(place.replace(/.*\*/, '…'))} of the strategy`
  return option === undefined ? code(place) : `${code(`--${option.replaceAll('_', '-')}`)} of generate`
}
