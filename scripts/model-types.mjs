/** The table of docs/models.md: each `model_type`, as the records of the families describe it. */
import { FAMILIES } from '../dist/esm/models/index.js'
import { table, withMarked } from './markdown.mjs'

export function withModelTypes(page) {
  const rows = FAMILIES.flatMap(({ types }) => Object.entries(types))
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([type, { models, notes = '' }]) => [`\`${type}\``, models, notes])
  return withMarked(page, 'docs/models.md', {
    'model types': table(['`model_type`', 'models', 'notes'], rows),
  })
}
