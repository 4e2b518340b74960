/**
 * Writes the lists of records that have a file each: the model families, in lib/models/list.ts. A record is an exported
 * constant of the list's type; records are listed by the names of their files.
 *
 *   node scripts/records.mjs [--check]     with --check nothing is written; exits 1 where a list is not up to date
 */
import { readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { parseArgs } from 'node:util'

const LISTS = [
  {
    folder: 'lib/models',
    type: 'Family',
    from: './family.js',
    list: 'FAMILIES',
    about: 'The model families.',
  },
]

const root = resolve(import.meta.dirname, '..')
const { values: flags } = parseArgs({ options: { check: { type: 'boolean', default: false } } })
for (const list of LISTS) {
  const file = `${list.folder}/list.ts`
  const path = join(root, file)
  const text = listOf(list)
  if (!flags.check) writeFileSync(path, text)
  else if (readFileSync(path, 'utf8') !== text) {
    console.error(`${file} does not list every ${list.type} of its folder; run node scripts/records.mjs`)
    process.exitCode = 1
  }
}

function listOf({ folder, type, from, list, about }) {
  const records = readdirSync(join(root, folder))
    .sort()
    .flatMap((file) => {
      const text = readFileSync(join(root, folder, file), 'utf8')
      const found = [...text.matchAll(new RegExp(`^export const (\\w+): ${type} = `, 'gm'))]
      return found.map(([, name]) => ({ name, module: `./${file.replace(/\.ts$/, '.js')}` }))
    })
  const imports = [
    `import type { ${type} } from '${from}'`,
    ...records.map(({ name, module }) => `import { ${name} } from '${module}'`),
  ].sort((a, b) => (moduleOf(a) < moduleOf(b) ? -1 : 1))
  return `/** ${about} Written by \`node scripts/records.mjs\`. */
${imports.join('\n')}

export const ${list}: readonly ${type}[] = [
${records.map(({ name }) => `  ${name},\n`).join('')}]
`
}

function moduleOf(line) {
  return line.slice(line.indexOf("'"))
}
