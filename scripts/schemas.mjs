/**
 * Writes the files generated from the code: schemas/*.json for programs and editors, the tables of options in
 * docs/config.md and docs/coming-from.md, those of models in docs/memory.md and docs/models.md, figures and hostile
 * requests of the service in docs/serve.md, tables of comparisons in docs/compare.md and docs/results.md, and the tables and drawings of the strategies' pages. Run it after
 * `npm run build:ts`. With --check it writes nothing, and the exit code says whether the files are up to date.
 */
import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import stringify from 'json-stringify-pretty-compact'
import { outputSchemas } from '../dist/esm/cli/schemas.js'
import { listStrategies, strategyFrom } from '../dist/esm/strategies/index.js'
import { configJsonSchema } from '../dist/esm/train/config/config-schema.js'
import { withClaims, withCompares } from './compare-tables.mjs'
import { withTables } from './config-tables.mjs'
import { withForeignTables } from './foreign-tables.mjs'
import { withHostileTable } from './hostile-table.mjs'
import { withDefinitions } from './json-definitions.mjs'
import { withMemoryTable } from './memory-table.mjs'
import { withModelTypes } from './model-types.mjs'
import { schematic, schematicsBeside } from './schematics.mjs'
import { withServiceTables } from './service-tables.mjs'
import { strategyPages } from './strategy-tables.mjs'

const root = fileURLToPath(new URL('..', import.meta.url))
const schemas = { 'config.schema.json': withDefinitions(configJsonSchema()), ...outputSchemas() }

/** Text by path. */
const generated = new Map(
  Object.entries(schemas).map(([name, schema]) => [
    `schemas/${name}`,
    `${stringify(schema, { maxLength: 120, indent: 1 })}\n`,
  ]),
)
generated.set('docs/config.md', withTables(textOf('docs/config.md')))
generated.set('docs/coming-from.md', withForeignTables(textOf('docs/coming-from.md'), 'docs/coming-from.md'))
generated.set('docs/memory.md', await withMemoryTable(textOf('docs/memory.md')))
generated.set('docs/models.md', withModelTypes(textOf('docs/models.md')))
generated.set('docs/compare.md', await withClaims(textOf('docs/compare.md')))
generated.set('docs/results.md', await withCompares(textOf('docs/results.md')))
generated.set('docs/serve.md', withServiceTables(withHostileTable(textOf('docs/serve.md'))))
for (const [path, text] of await strategyPages(textOf)) generated.set(path, text)
for (const { name } of listStrategies())
  generated.set(`docs/strategies/${name}.svg`, schematic(strategyFrom({ name })))
for (const [file, title, names, columns] of [
  [
    'ranks',
    'Low-rank products, and what is done with their ranks',
    ['lora', 'dylora', 'adalora', 'delta-lora'],
    2,
  ],
  ['vera', 'LoRA trains a pair of factors, VeRA two vectors', ['lora', 'vera'], 2],
  ['products', 'Products of small factors', ['lora', 'loha', 'lokr'], 3],
]) {
  const configs = names.map((name) => strategyFrom({ name }))
  generated.set(`docs/images/structures-${file}.svg`, schematicsBeside(title, configs, columns))
}

function textOf(path) {
  try {
    return readFileSync(join(root, path), 'utf8')
  } catch {
    return undefined
  }
}

mkdirSync(join(root, 'schemas'), { recursive: true })
const stale = [...generated].filter(([path, text]) => textOf(path) !== text).map(([path]) => path)
const left = readdirSync(join(root, 'schemas'))
  .map((name) => `schemas/${name}`)
  .filter((path) => !generated.has(path))

if (!process.argv.includes('--check')) {
  for (const path of stale) writeFileSync(join(root, path), generated.get(path))
  for (const path of left) rmSync(join(root, path))
} else if (stale.length + left.length > 0) {
  console.error(`not up to date: ${[...stale, ...left].join(', ')}; npm run build:schemas writes them`)
  process.exitCode = 1
}
