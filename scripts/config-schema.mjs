/** Writes docs/config.schema.json from the options' own schema. Run after `npm run build:ts`. */
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { configJsonSchema } from '../dist/esm/train/config-schema.js'

const docs = join(fileURLToPath(new URL('..', import.meta.url)), 'docs')
mkdirSync(docs, { recursive: true })
writeFileSync(join(docs, 'config.schema.json'), `${JSON.stringify(configJsonSchema(), null, 2)}\n`)
