/**
 * Writes the lists of records that have a file each: the model families in lib/models/list.ts, and the tasks in
 * lib/tasks/list.ts. A record is an exported constant of the list's type, or what its maker returns; records are listed by
 * the names of their files.
 *
 *   node scripts/records.mjs [--check]     with --check nothing is written; exits 1 where a list is not up to date
 */
import { readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { parseArgs } from 'node:util'
import { formatted } from './format.mjs'

const LISTS = [
  {
    folder: 'lib/models',
    type: 'Family',
    from: './family.js',
    list: 'FAMILIES',
    about: 'The model families.',
  },
  {
    folder: 'lib/tasks',
    type: 'TaskRules',
    from: './task.js',
    maker: 'taskRulesOf',
    list: 'ALL_TASKS',
    names: { type: 'Task', about: 'What a run learns:' },
    about: 'The tasks.',
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

function listOf({ folder, type, from, maker, list, names, about }) {
  const made = maker === undefined ? `: ${type} = ` : `(?:: ${type} = | = ${maker}\\()`
  const records = readdirSync(join(root, folder))
    .sort()
    .flatMap((file) => {
      const text = readFileSync(join(root, folder, file), 'utf8')
      const found = [...text.matchAll(new RegExp(`^export const (\\w+)${made}`, 'gm'))]
      return found.map(([, name]) => ({ name, text, module: `./${file.replace(/\.ts$/, '.js')}` }))
    })
  const imports = [
    `import type { ${type} } from '${from}'`,
    ...records.map(({ name, module }) => `import { ${name} } from '${module}'`),
  ].sort((a, b) => (moduleOf(a) < moduleOf(b) ? -1 : 1))
  return formatted(`/** ${about} Written by \`node scripts/records.mjs\`. */
${imports.join('\n')}
${names === undefined ? '' : namesOf(names, records)}
export const ${list}: readonly ${type}${names === undefined ? '' : `<${names.type}>`}[] = [
${records.map(({ name }) => `  ${name},\n`).join('')}]
`)
}

/** The type of the names of records, with what each says about itself. */
function namesOf({ type, about }, records) {
  const fields = records.map(({ text }) =>
    ['name', 'about'].map((field) => new RegExp(`^  ${field}: '(.*)',$`, 'm').exec(text)[1]),
  )
  return `
/**
 * ${about}
${fields.map(([name, words]) => ` * - \`${name}\`: ${words}`).join('\n')}
 */
export type ${type} = ${fields.map(([name]) => `'${name}'`).join(' | ')}
`
}

function moduleOf(line) {
  return line.slice(line.indexOf("'"))
}
