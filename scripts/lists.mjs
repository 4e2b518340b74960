/**
 * Writes the lists that both languages know, native/core/lists.h and lib/native/lists.ts, from native/lists.json: names
 * of enumerations under `values`, fields of structures under `fields`.
 *
 *   node scripts/lists.mjs [--check]     with --check nothing is written; exits 1 where a file is not up to date
 */
import { readFileSync, writeFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { parseArgs } from 'node:util'

const root = resolve(import.meta.dirname, '..')
const { values: flags } = parseArgs({ options: { check: { type: 'boolean', default: false } } })
const entries = Object.entries(JSON.parse(readFileSync(join(root, 'native/lists.json'), 'utf8')))
const lists = entries.flatMap(([name, { about, values, typescript }]) =>
  values === undefined
    ? []
    : {
        name,
        about,
        names: Array.isArray(values) ? values : Object.keys(values),
        inputs: Array.isArray(values) ? undefined : Object.values(values),
        typescript,
      },
)
/** A type that is none of these is an enumeration. A field is optional if it has a default. */
const TYPES = {
  integer: { cpp: 'int64_t', ts: 'number', missing: 0 },
  flag: { cpp: 'bool', ts: 'boolean', missing: false, default: false },
  text: { cpp: 'std::string', ts: 'string', missing: undefined, default: '' },
}
const records = entries.flatMap(([name, { about, fields }]) =>
  fields === undefined ? [] : { name, about, fields: Object.entries(fields).map(fieldOf) },
)

function fieldOf([key, { about, type, default: given }]) {
  const { cpp, ts, missing, default: usual } = TYPES[type] ?? { cpp: type, ts: type, missing: '{}' }
  const fallback = given ?? usual
  return {
    key,
    about,
    cpp: `${cpp} ${key.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`)}`,
    value: fallback === '' ? undefined : (fallback ?? missing),
    ts,
    optional: fallback !== undefined,
  }
}

for (const [file, text] of [
  ['native/core/lists.h', header()],
  ['lib/native/lists.ts', module()],
]) {
  const path = join(root, file)
  if (!flags.check) writeFileSync(path, text)
  else if (readFileSync(path, 'utf8') !== text) {
    console.error(`${file} is not what native/lists.json says; run node scripts/lists.mjs`)
    process.exitCode = 1
  }
}

function header() {
  return `// Made by scripts/lists.mjs from native/lists.json.
#pragma once

#include <cstdint>
#include <string>

namespace lowrank {

${[...lists.map(enumeration), ...records.map(structure)].join('\n')}
}  // namespace lowrank
`
}

function enumeration({ name, about, names, inputs }) {
  const text = `${wrapped(about, '/// ', 120)}
enum class ${name} : uint8_t {${names.map((value) => `\n  ${value.toLowerCase()},`).join('')}
};
inline constexpr const char* k${name}Names[] = {${names.map((value) => `\n    "${value}",`).join('')}
};
constexpr const char* name_of(${name} value) { return k${name}Names[static_cast<int>(value)]; }
constexpr const auto& names_of(${name}) { return k${name}Names; }
`
  if (inputs === undefined) return text
  const most = Math.max(...inputs.map((roles) => roles.length))
  const rows = inputs.map((roles) => `\n    {${roles.map((role) => `"${role}"`).join(', ')}},`)
  return `${text}/// The roles of its inputs; null: no more.
inline constexpr const char* k${name}Inputs[][${most}] = {${rows.join('')}
};
`
}

function structure({ name, about, fields }) {
  const member = ({ about, cpp, value }) =>
    `${about ? `${wrapped(about, '  /// ', 120)}\n` : ''}  ${cpp}${value === undefined ? '' : ` = ${value}`};\n`
  const visit = ({ key, cpp, optional }) => `  visit("${key}", fields.${cpp.split(' ')[1]}, ${optional});\n`
  return `${wrapped(about, '/// ', 120)}
struct ${name} {
${fields.map(member).join('')}};
/// Calls with the name of each field in TypeScript, the field, and whether it may be absent.
template <class Visit>
void each_field(${name}& fields, Visit&& visit) {
${fields.map(visit).join('')}}
`
}

function module() {
  const own = lists.filter(({ typescript }) => typescript)
  return `/** Made by scripts/lists.mjs from native/lists.json. */
${own.map(({ name, about, names }) => `\n${documented(about)}\nexport ${declared(name, names)}\n`).join('')}${records.map(shape).join('')}`
}

function shape({ name, about, fields }) {
  const member = ({ key, about, ts, optional }) =>
    `${about ? `${documented(about, '  ')}\n` : ''}  ${key}${optional ? '?' : ''}: ${ts}\n`
  return `\n${documented(about)}\nexport interface ${name} {\n${fields.map(member).join('')}}\n`
}

/** The categories are walked in order; of all others the names are enough. */
function declared(name, names) {
  const line = `type ${name} = ${names.map((value) => `'${value}'`).join(' | ')}`
  if (name !== 'Category' && line.length < 100) return line
  if (name !== 'Category') return `type ${name} =${names.map((value) => `\n  | '${value}'`).join('')}`
  const values = names.map((value) => `\n  '${value}',`).join('')
  return `const CATEGORIES = [${values}\n] as const\n/** One of them. */\nexport type Category = (typeof CATEGORIES)[number]`
}

function documented(about, indent = '') {
  if (about.length < 100) return `${indent}/** ${about} */`
  return `${indent}/**\n${wrapped(about, `${indent} * `, 110)}\n${indent} */`
}

function wrapped(text, prefix, width) {
  const lines = ['']
  for (const word of text.split(' ')) {
    const line = lines.at(-1)
    if (line !== '' && prefix.length + line.length + 1 + word.length > width) lines.push(word)
    else lines[lines.length - 1] = line === '' ? word : `${line} ${word}`
  }
  return lines.map((line) => prefix + line).join('\n')
}
