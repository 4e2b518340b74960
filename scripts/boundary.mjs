/**
 * The objects that cross between lib/ and native/, as native/boundary.json states them: structs with a visit of their
 * fields, by which native/addon reads and makes them, and interfaces.
 *
 * An object has `fields`, and those of the objects it `extends`; `cpp` is the name of its struct, if another one. A field is its type, or an object with its type and what
 * it is `about`. One whose key ends in `?` may be absent: it then has its `default`, or is empty; with the default null
 * an empty one is not absent. A type is one of those below, an enumeration of native/lists.json, or an object stated
 * before; `[]` after it means a list, `{}` an object by names, and `null` before it that the field may be null.
 */
import { documented, snake, wrapped } from './sources.mjs'

const EMPTY = { zero: '{}', empty: true }
const TYPES = {
  integer: { cpp: 'int64_t', ts: 'number', zero: 0 },
  index: { cpp: 'int', ts: 'number', zero: 0 },
  unsigned: { cpp: 'uint64_t', ts: 'number', zero: 0 },
  number: { cpp: 'double', ts: 'number', zero: 0 },
  float: { cpp: 'float', ts: 'number', zero: 0 },
  flag: { cpp: 'bool', ts: 'boolean', zero: false, empty: true },
  text: { cpp: 'std::string', ts: 'string', ...EMPTY },
  bytes: { cpp: 'std::vector<uint8_t>', ts: 'Uint8Array', ...EMPTY },
  ids: { cpp: 'std::vector<int32_t>', ts: 'Int32Array', ...EMPTY },
  floats: { cpp: 'std::vector<float>', ts: 'Float32Array', ...EMPTY },
  parameter: { cpp: 'ParameterIndex', ts: 'string', zero: '{}' },
  matcher: { cpp: 'std::shared_ptr<TokenRules>', ts: 'NativeMatcher', ...EMPTY },
  doubles: { cpp: 'std::vector<double>', ts: 'Float64Array', ...EMPTY },
}

/** The type of a field in both languages, what it begins as, and whether that stands for absence. */
function typeOf(name) {
  if (name.endsWith('[]')) {
    const { cpp, ts } = typeOf(name.slice(0, -2))
    return { cpp: `std::vector<${cpp}>`, ts: `${ts}[]`, ...EMPTY }
  }
  if (name.endsWith('{}')) {
    const { cpp, ts } = typeOf(name.slice(0, -2))
    return { cpp: `std::map<std::string, ${cpp}>`, ts: `Record<string, ${ts}>`, ...EMPTY }
  }
  return TYPES[name] ?? { cpp: name, ts: name, zero: '{}' }
}

function fieldOf([name, given]) {
  const { type: stated, about, default: usual } = typeof given === 'string' ? { type: given } : given
  const [, nullable, type] = /^(null )?(.*)$/.exec(stated)
  const { cpp, ts, zero, empty } = typeOf(type)
  const optional = name.endsWith('?')
  const key = name.replace('?', '')
  const wrap = nullable !== undefined || usual === null || (optional && usual === undefined && !empty)
  return {
    key,
    about,
    member: snake(key),
    cpp: wrap ? `std::optional<${cpp}>` : cpp,
    value: wrap ? '{}' : initial(type, usual ?? zero),
    ts: nullable ? `${ts} | null` : ts,
    optional,
  }
}

/** An initial value in C++, which for an enumeration is one of its names. */
function initial(type, value) {
  if (value === '{}' || typeof value === 'object') return '{}'
  return typeof value === 'string' ? `${type}::${value}` : String(value)
}

/** The objects of native/boundary.json. */
export function objectsOf(boundary) {
  return Object.entries(boundary).map(([name, { about, cpp = name, extends: parents = [], fields }]) => ({
    name,
    cpp,
    about,
    parents,
    fields: Object.entries(fields).map(fieldOf),
  }))
}

/** native/core/boundary.h */
export function boundaryHeader(objects) {
  return `// Made by scripts/lists.mjs from native/boundary.json.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "core/lists.h"
#include "core/parameter_index.h"

namespace lowrank {

class TokenRules;

${objects.map(struct).join('\n')}
}  // namespace lowrank
`
}

/** A struct; `each_key` visits the name of each field in TypeScript, the field, and whether it may be absent. */
function struct({ cpp: name, about, parents, fields }) {
  const member = ({ about, cpp, member, value }) =>
    `${about ? `${wrapped(about, '  /// ', 120)}\n` : ''}  ${cpp} ${member}${value === '{}' ? '{}' : ` = ${value}`};\n`
  const visits = [
    ...parents.map((parent) => `    ${parent}::each_key(of, visit);\n`),
    ...fields.map(({ key, member, optional }) => `    visit("${key}", of.${member}, ${optional});\n`),
  ]
  const bases = parents.length > 0 ? ` : ${parents.join(', ')}` : ''
  return `${wrapped(about, '/// ', 120)}
struct ${name}${bases} {
${fields.map(member).join('')}
  friend bool operator==(const ${name}&, const ${name}&) = default;
  template <class Of, class Visit>
  static void each_key(Of& of, const Visit& visit) {
${visits.join('')}  }
};
`
}

/** lib/native/boundary.ts */
export function boundaryModule(objects, lists) {
  const text = objects.map(shape).join('')
  const used = lists.map(({ name }) => name).filter((name) => new RegExp(`\\b${name}\\b`).test(text))
  return `/** Made by scripts/lists.mjs from native/boundary.json. */
import type { ${used.sort().join(', ')} } from './lists.js'
import type { NativeMatcher } from './types/grammar.js'
${text}`
}

function shape({ name, about, parents, fields }) {
  const member = ({ key, about, ts, optional }) =>
    `${about ? `${documented(about, '  ')}\n` : ''}  ${key}${optional ? '?' : ''}: ${ts}\n`
  const bases = parents.length > 0 ? ` extends ${parents.join(', ')}` : ''
  return `\n${documented(about)}\nexport interface ${name}${bases} {\n${fields.map(member).join('')}}\n`
}
