/**
 * Writes the lists of records that have a file each: model families, tasks, and forms of data, each in the list.ts of its
 * folder. A record is an exported constant of the list's type, or what its maker returns. Records are listed by the names
 * of their files, or by their precedence.
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
  {
    folder: 'lib/data/forms',
    type: 'Form',
    parameters: 'DatasetRow, DatasetFormat',
    from: './form.js',
    imports: ["import type { DatasetRow } from '../rows.js'"],
    list: 'ALL_FORMS',
    names: { type: 'DatasetFormat' },
    keys: { type: 'FormColumn', of: ['columns', 'optional'] },
    about: 'The forms of data, in the order of precedence.',
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

function listOf({ folder, type, parameters, from, imports = [], maker, list, names, keys, about }) {
  const made = maker === undefined ? `: ${type}(?:<.*>)? = ` : ` = ${maker}\\(`
  const records = readdirSync(join(root, folder))
    .sort()
    .flatMap((file) => {
      const text = readFileSync(join(root, folder, file), 'utf8')
      const found = [...text.matchAll(new RegExp(`^export const (\\w+)${made}`, 'gm'))]
      return found.map(([, name]) => ({ name, text, module: `./${file.replace(/\.ts$/, '.js')}` }))
    })
    .sort((a, b) => precedenceOf(a) - precedenceOf(b))
  const lines = [
    `import type { ${type} } from '${from}'`,
    ...imports,
    ...records.map(({ name, module }) => `import { ${name} } from '${module}'`),
  ].sort((a, b) => (moduleOf(a) < moduleOf(b) ? -1 : 1))
  const given = parameters ?? names?.type
  return formatted(`/** ${about} Written by \`node scripts/records.mjs\`. */
${lines.join('\n')}
${names === undefined ? '' : namesOf(names, records)}${keys === undefined ? '' : keysOf(keys, records)}
export const ${list}: readonly ${type}${given === undefined ? '' : `<${given}>`}[] = [
${records.map(({ name }) => `  ${name},\n`).join('')}]
`)
}

function precedenceOf({ text }) {
  return Number(/^ {2}precedence: (\d+),$/m.exec(text)?.[1] ?? 0)
}

/** The type of the names of records, with what each says about itself. */
function namesOf({ type, about }, records) {
  const fieldOf = (text, field) => new RegExp(`^  ${field}: '(.*)',$`, 'm').exec(text)[1]
  const named = records.map(({ text }) => [fieldOf(text, 'name'), text])
  const words = named.map(([name, text]) => ` * - \`${name}\`: ${about && fieldOf(text, 'about')}`)
  const comment = about === undefined ? '' : `/**\n * ${about}\n${words.join('\n')}\n */\n`
  return `\n${comment}export type ${type} = ${unionOf(named.map(([name]) => name))}\n`
}

/** The type of the keys in objects of records. */
function keysOf({ type, of }, records) {
  const found = records.flatMap(({ text }) =>
    of.flatMap((field) => {
      const [, inside = ''] = new RegExp(`^  ${field}: \\{([^}]*)\\}`, 'm').exec(text) ?? []
      return Array.from(inside.matchAll(/(\w+): '/g), ([, key]) => key)
    }),
  )
  return `\nexport type ${type} = ${unionOf([...new Set(found)])}\n`
}

function unionOf(names) {
  return names.map((name) => `'${name}'`).join(' | ')
}

function moduleOf(line) {
  return line.slice(line.indexOf("'"))
}
