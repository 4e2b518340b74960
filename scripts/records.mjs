/**
 * Writes the lists of records that have a file each: model families, tasks, losses, and forms of data, each in the list.ts of
 * its folder. A record is an exported constant of the list's type, or what its maker returns. Records are listed by the names
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
    folder: 'lib/losses',
    type: 'LossRules',
    from: './loss.js',
    maker: 'lossRules',
    list: 'LOSSES',
    names: { type: 'LossName', about: 'Names of the built-in losses.' },
    options: { type: 'LossOptions', suffix: 'Loss', about: 'A loss with its options.' },
    about: 'The losses.',
  },
  {
    folder: 'lib/data/forms',
    type: 'Form',
    parameters: 'DatasetRow, DatasetFormat',
    from: './form.js',
    imports: ["import type { DatasetRow } from '../rows.js'"],
    list: 'ALL_FORMS',
    names: { type: 'DatasetFormat', about: 'Names of the forms of data.' },
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

function listOf(given) {
  const { type, from, imports = [], list, names, keys, options, about } = given
  const records = recordsOf(given)
  const lines = [
    `import type { ${type} } from '${from}'`,
    ...imports,
    ...records.map(({ name, text, module }) => {
      const typed = options === undefined ? '' : `type ${optionsNameOf(text, options)}, `
      return `import { ${typed}${name} } from '${module}'`
    }),
  ].sort((a, b) => (moduleOf(a) < moduleOf(b) ? -1 : 1))
  const parameters = given.parameters ?? names?.type
  const typed = `readonly ${type}${parameters === undefined ? '' : `<${parameters}>`}[]`
  const types = [
    names === undefined ? '' : namesOf(names, records),
    keys === undefined ? '' : keysOf(keys, records),
    options === undefined ? '' : optionsOf(options, records),
  ]
  // The options of a loss have the type of its own schema.
  const [before, after] = options === undefined ? [`: ${typed}`, ''] : ['', ` as const satisfies ${typed}`]
  return formatted(`/** ${about} Written by \`node scripts/records.mjs\`. */
${lines.join('\n')}
${types.join('')}
export const ${list}${before} = [
${records.map(({ name }) => `  ${name},\n`).join('')}]${after}
`)
}

/** The records of a folder: the name of each, the text of its file, and the module. */
function recordsOf({ folder, type, maker }) {
  const made = maker === undefined ? `: ${type}(?:<.*>)? = ` : ` = ${maker}\\(`
  return readdirSync(join(root, folder))
    .sort()
    .flatMap((file) => {
      const text = readFileSync(join(root, folder, file), 'utf8')
      const found = [...text.matchAll(new RegExp(`^export const (\\w+)${made}`, 'gm'))]
      return found.map(([, name]) => ({ name, text, module: `./${file.replace(/\.ts$/, '.js')}` }))
    })
    .sort((a, b) => precedenceOf(a) - precedenceOf(b))
}

function precedenceOf({ text }) {
  return Number(/^ {2}precedence: (\d+),$/m.exec(text)?.[1] ?? 0)
}

/** The type of the names of records, with what each says about itself. */
function namesOf({ type, about }, records) {
  const fieldOf = (text, field) => new RegExp(`^  ${field}: '(.*)',$`, 'm').exec(text)[1]
  const named = records.map(({ text }) => [fieldOf(text, 'name'), text])
  const lines = about?.endsWith(':')
    ? named.map(([name, text]) => ` * - \`${name}\`: ${fieldOf(text, 'about')}\n`)
    : []
  const comment =
    lines.length > 0 ? `/**\n * ${about}\n${lines.join('')} */\n` : about ? `/** ${about} */\n` : ''
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

/** The type of the options of records, each of which its own file exports. */
function optionsOf(options, records) {
  const types = records.map(({ text }) => optionsNameOf(text, options))
  return `
export type { ${types.join(', ')} }

/** ${options.about} */
export type ${options.type} = ${types.join(' | ')}
`
}

function optionsNameOf(text, { suffix }) {
  return new RegExp(`^export interface (\\w+${suffix}) `, 'm').exec(text)[1]
}

function unionOf(names) {
  return names.map((name) => `'${name}'`).join(' | ')
}

function moduleOf(line) {
  return line.slice(line.indexOf("'"))
}
