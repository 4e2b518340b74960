/**
 * Writes the lists of records that have a file each: model families, strategies, tasks, losses, and forms of data, each in
 * the list.ts of its folder. A record is an exported constant of the list's type, or what its maker returns. Records are
 * listed by the names of their files, by their precedence, or by another order that the list has. Also writes lists of the
 * functions that make options of strategies, which the package exports, of their names, and of the outputs of commands.
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
    folder: 'lib/strategies',
    type: 'StrategyRules',
    from: './strategy.js',
    order: byPaper,
    // Wrappers need the list, and full fine-tuning is no adapter.
    only: (text) => !/ wrapping[<,]|^ {2}saves: 'model'/m.test(text),
    list: 'PLAIN',
    as: 'unknown as',
    about: 'The strategies that others may wrap, in the order of their papers.',
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
    as: 'const satisfies',
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

const RULES = /^export const \w+Rules: StrategyRules</m
const root = resolve(import.meta.dirname, '..')
const { values: flags } = parseArgs({ options: { check: { type: 'boolean', default: false } } })
for (const list of LISTS) write(`${list.folder}/list.ts`, listOf(list))
write('lib/strategies/makers.ts', makersOf('lib/strategies'))
write('lib/cli/schemas/list.ts', outputsOf('lib/cli/schemas'))
write('lib/report/strategy-labels.ts', labelsOf('lib/strategies'))

function write(file, text) {
  const path = join(root, file)
  if (!flags.check) writeFileSync(path, text)
  else if (readFileSync(path, 'utf8') !== text) {
    console.error(`${file} is not what its folder has; run node scripts/records.mjs`)
    process.exitCode = 1
  }
}

/** The functions that return the options of a record. */
function makersOf(folder) {
  const made = filesOf(folder).flatMap(({ text, module }) => {
    const names = [...text.matchAll(/^export function (\w+)\([^)]*\): (\w+)Config \{/gm)]
      .filter(([, name, config]) => name.toLowerCase() === config.toLowerCase())
      .map(([, name]) => name)
    return names.length > 0 && isListed(text) ? [`export { ${names.join(', ')} } from '${module}'\n`] : []
  })
  return formatted(
    `/** Makes the options of each strategy. Written by \`node scripts/records.mjs\`. */\n${made.join('')}`,
  )
}

/** Names of strategies in the literature, for pages of runs, whose scripts have no strategies. */
function labelsOf(folder) {
  const lines = filesOf(folder)
    .filter(({ text }) => isListed(text))
    .map(({ text }) => text.slice(text.search(RULES)))
    .map((rules) => [fieldOf(rules, 'name'), fieldOf(rules, 'label')])
    .map(([name, label]) => `  '${name}': '${label}',\n`)
  return formatted(`/** Names of the strategies in the literature. Written by \`node scripts/records.mjs\`. */
export const STRATEGY_LABELS: Readonly<Record<string, string>> = {
${lines.join('')}}
`)
}

/** The outputs of commands, each of which has a file with its name. */
function outputsOf(folder) {
  const verbs = filesOf(folder)
    .filter(({ text, module }) => module !== './list.js' && /^export const printed = /m.test(text))
    .map(({ module }) => module.slice('./'.length, -'.js'.length))
  // Some are words of the language.
  const named = (verb) => `of${verb[0].toUpperCase()}${verb.slice(1)}`
  return formatted(`/** Output of every command with --json. Written by \`node scripts/records.mjs\`. */
${verbs.map((verb) => `import { printed as ${named(verb)} } from './${verb}.js'\n`).join('')}
/** Lines on stdout of a successful command: its answer, or its events. */
export const printed = {
${verbs
  .map(
    (verb) => `  ${verb}: ${named(verb)},
`,
  )
  .join('')}}
`)
}

function isListed(text) {
  return RULES.test(text)
}

function listOf(given) {
  const { type, from, imports = [], list, names, keys, about } = given
  const records = recordsOf(given)
  const lines = [
    `import type { ${type} } from '${from}'`,
    ...imports,
    ...records.map(({ name, module }) => `import { ${name} } from '${module}'`),
  ].sort((a, b) => (moduleOf(a) < moduleOf(b) ? -1 : 1))
  const parameters = given.parameters ?? names?.type
  const typed = `readonly ${type}${parameters === undefined ? '' : `<${parameters}>`}[]`
  const types = [
    names === undefined ? '' : namesOf(names, records),
    keys === undefined ? '' : keysOf(keys, records),
  ]
  // The options of a loss have the type of its own schema, and those of a strategy that of its own config.
  const [before, after] = given.as === undefined ? [`: ${typed}`, ''] : ['', ` as ${given.as} ${typed}`]
  return formatted(`/** ${about} Written by \`node scripts/records.mjs\`. */
${lines.join('\n')}
${types.join('')}
export const ${list}${before} = [
${records.map(({ name }) => `  ${name},\n`).join('')}]${after}
`)
}

/** The records of a folder: the name of each, the text of its file, and the module. */
function recordsOf({ folder, type, maker, only = () => true, order = byPrecedence }) {
  const made = maker === undefined ? `: ${type}(?:<.*>)? = ` : ` = ${maker}\\(`
  return filesOf(folder)
    .filter(({ text }) => only(text))
    .flatMap(({ text, module }) => {
      const found = [...text.matchAll(new RegExp(`^export const (\\w+)${made}`, 'gm'))]
      return found.map(([, name]) => ({ name, text, module }))
    })
    .sort(order)
}

function filesOf(folder) {
  return readdirSync(join(root, folder))
    .map((file) => file.replace(/\.ts$/, ''))
    .sort()
    .map((stem) => ({ text: readFileSync(join(root, folder, `${stem}.ts`), 'utf8'), module: `./${stem}.js` }))
}

function byPrecedence(a, b) {
  const precedenceOf = ({ text }) => Number(/^ {2}precedence: (\d+),$/m.exec(text)?.[1] ?? 0)
  return precedenceOf(a) - precedenceOf(b)
}

function byPaper(a, b) {
  const paperOf = ({ text }) => /^ {2}paper: '(.*)',$/m.exec(text)[1]
  return paperOf(a).localeCompare(paperOf(b), 'en')
}

/** The type of the names of records, with what each says about itself. */
function namesOf({ type, about }, records) {
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

function fieldOf(text, field) {
  return new RegExp(`^  ${field}: '(.*)',$`, 'm').exec(text)[1]
}

function unionOf(names) {
  return names.map((name) => `'${name}'`).join(' | ')
}

function moduleOf(line) {
  return line.slice(line.indexOf("'")).replace(/\.js'$/, '')
}
