/**
 * Writes what both languages know: the enumerations of native/lists.json in native/core/lists.h and lib/native/lists.ts,
 * and the objects of native/boundary.json in native/core/boundary.h and lib/native/boundary.ts. An enumeration with
 * `device` is also written for CUDA's kernels. Operations, as their files in native/ops state them, go to
 * native/core/lists.h too, to native/ops/list.h, and to lib/graph/nodes.ts. Writes the list of kernels,
 * native/kernels/list.h, and their variant, native/kernels/variant.h, from the headers that state them, and what a level
 * of the CPU's instruction sets consists of, native/backends/cpu/levels/areas.inl, from the files of
 * native/backends/cpu. Writes the list of kinds of terms, native/adapters/list.h, from their headers.
 *
 *   node scripts/lists.mjs [--check]     with --check nothing is written; exits 1 where a file is not up to date
 */
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { parseArgs } from 'node:util'
import { boundaryHeader, boundaryModule, objectsOf } from './boundary.mjs'
import { documented, snake, wrapped } from './sources.mjs'

const root = resolve(import.meta.dirname, '..')
const { values: flags } = parseArgs({ options: { check: { type: 'boolean', default: false } } })
const stated = (file) => JSON.parse(readFileSync(join(root, 'native', file), 'utf8'))
const lists = Object.entries(stated('lists.json')).map(([name, { values, ...rest }]) => ({
  name,
  names: values,
  ...rest,
}))
const objects = objectsOf(stated('boundary.json'))
/** The operations: what LOWRANK_NODE and the comment before it say. */
const NODE = /((?:^\/\/\/ .*\n)+)LOWRANK_NODE\((\w+)([^;]*)\);/gm
const nodes = filesOf('native/ops', '.cpp').flatMap(([, text]) => [...text.matchAll(NODE)].map(nodeOf))
lists.unshift({
  name: 'Op',
  about: 'Operations of a graph, each with its inputs by role and its attributes.',
  names: nodes.map(([name]) => name),
  nodes,
})

function nodeOf([, about, name, rest]) {
  const text = about.trim().slice('/// '.length).replaceAll('\n/// ', ' ')
  const node = { about: text, inputs: [], attributes: {} }
  for (const [, optional, kind, names] of rest.matchAll(/(optional\()?(\w+)\(([\w\s,]*)\)/g)) {
    if (kind === 'inputs') node.inputs = names.split(/,\s*/)
    else if (kind === 'state_block') node.stateBlock = Number(names)
    else node.attributes[optional ? `${names}?` : names] = kind
  }
  return [name, { ...node, ends: /, ends$/.test(rest) }]
}

/** Names and texts of a folder's files with an ending, in order. */
function filesOf(folder, ending) {
  const names = readdirSync(join(root, folder)).filter((name) => name.endsWith(ending))
  return names.sort().map((name) => [name, readFileSync(join(root, folder, name), 'utf8')])
}

/** Types of attributes. A type that is none of these is an enumeration. */
const ATTRIBUTES = {
  weight: { cpp: 'int', ts: 'string', absent: -1, read: 'weight' },
  value: { cpp: 'int', ts: 'number', absent: -1, read: 'value' },
  integer: { cpp: 'int', ts: 'number', absent: 0, read: 'integer' },
  number: { cpp: 'float', ts: 'number', absent: 0, read: 'number' },
}
/** What stands for absence where zero is a value. */
const ABSENT = { window: -1 }
/** Kernels are the structs with a kName, by header and place. */
const KERNEL =
  /^struct (\w+) \{\n {2}static constexpr const char\* kName = .*\n( {2}static constexpr bool kNeedsRoom = true;)?/gm

/** Terms of adapters are the classes with a kKind. */
const TERM = /^class (\w+) final : public Term \{\n public:\n {2}static constexpr const char\* kKind = /gm

for (const [file, text] of [
  ['native/core/lists.h', header()],
  ['native/core/boundary.h', boundaryHeader(objects)],
  ['native/ops/list.h', rules()],
  ['native/kernels/list.h', kernelList()],
  ['native/kernels/variant.h', kernelVariant()],
  ['native/adapters/list.h', terms()],
  ['native/backends/cpu/levels/areas.inl', areas()],
  ['native/backends/cuda/lists.h', deviceLists()],
  ['lib/native/lists.ts', module()],
  ['lib/native/boundary.ts', boundaryModule(objects, lists)],
  ['lib/graph/nodes.ts', graphNodes()],
]) {
  const path = join(root, file)
  // What has not changed keeps its time, and what includes it is not compiled again.
  if (existsSync(path) && readFileSync(path, 'utf8') === text) continue
  if (!flags.check) writeFileSync(path, text)
  else {
    console.error(`${file} is not what it is made from; run node scripts/lists.mjs`)
    process.exitCode = 1
  }
}

function header() {
  return `// Made by scripts/lists.mjs from native/lists.json.
#pragma once

#include <cstdint>

namespace lowrank {

${[...lists.map(enumeration), attributes()].join('\n')}
}  // namespace lowrank
`
}

function enumeration({ name, about, names, nodes }) {
  const text = `${wrapped(about, '/// ', 120)}
enum class ${name} : uint8_t {${names.map((value) => `\n  ${value.toLowerCase()},`).join('')}
};
inline constexpr const char* k${name}Names[] = {${names.map((value) => `\n    "${value}",`).join('')}
};
constexpr const char* name_of(${name} value) { return k${name}Names[static_cast<int>(value)]; }
constexpr const auto& names_of(${name}) { return k${name}Names; }
`
  return nodes === undefined ? text : text + inputRoles(nodes)
}

function inputRoles(nodes) {
  const most = Math.max(...nodes.map(([, { inputs }]) => inputs.length))
  const rows = nodes.map(([, { inputs }]) => `\n    {${inputs.map((role) => `"${role}"`).join(', ')}},`)
  return `/// The roles of its inputs; null: no more.
inline constexpr const char* kOpInputs[][${most}] = {${rows.join('')}
};
`
}

function attributesOf({ attributes = {} }) {
  return Object.entries(attributes).map(([key, type]) => {
    const name = key.replace('?', '')
    return { key: name, field: snake(name), type, optional: key.endsWith('?'), ...ATTRIBUTES[type] }
  })
}

/** Attributes of all operations as one struct, and a visit of those that an operation has. */
function attributes() {
  const all = new Map(nodes.flatMap(([, node]) => attributesOf(node).map((each) => [each.key, each])))
  const member = ({ key, field, type, cpp = type, absent = '{}' }) =>
    `  ${cpp} ${field} = ${ABSENT[key] ?? absent};\n`
  const visit = ({ key, field, read = 'choice', optional }) =>
    `visit.${read}("${key}", of.${field}, ${optional});`
  const cases = nodes.map(([name, node]) => {
    const visits = attributesOf(node).map((each) => `\n      ${visit(each)}`)
    return `    case Op::${name}:${visits.join('')}\n      return;\n`
  })
  return `/// Attributes of nodes; what an operation does not have keeps its default.
struct NodeAttributes {
${[...all.values()].map(member).join('')}};
/// Calls visit.<type>(name in TypeScript, attribute, whether it may be absent) for each attribute of an operation.
template <class Visit>
void each_attribute(Op op, NodeAttributes& of, Visit&& visit) {
  switch (op) {
${cases.join('')}  }
}
/// True if nodes of the operation have no output.
constexpr bool ends(Op op) { return ${nodes
    .filter(([, { ends }]) => ends)
    .map(([name]) => `op == Op::${name}`)
    .join(' || ')}; }
/// Tokens between positions at which nodes of the operation keep their state, besides the end of a text; 0: they keep none.
constexpr int64_t state_block(Op op) {
  switch (op) {
${stateBlocks()
  .map(([name, block]) => `    case Op::${name}:\n      return ${block};\n`)
  .join('')}    default:
      return 0;
  }
}
`
}

function stateBlocks() {
  return nodes.flatMap(([name, { stateBlock }]) => (stateBlock === undefined ? [] : [[name, stateBlock]]))
}

/** The table of operations. Hidden, since a shared library would link without one that is missing. */
function rules() {
  return `// Made by scripts/lists.mjs from the files of operations.
#pragma once

#include "plan/op.h"

namespace lowrank {

#if !defined(_WIN32)
#pragma GCC visibility push(hidden)
#endif
${nodes.map(([name]) => `extern const OpRules ${name};\n`).join('')}#if !defined(_WIN32)
#pragma GCC visibility pop
#endif

inline constexpr OpTable kOps{${nodes.map(([name]) => `\n    &${name},`).join('')}
};

}  // namespace lowrank
`
}

/** Headers that state kernels, with their kernels. */
function kernelHeaders() {
  return filesOf('native/kernels', '.h').flatMap(([file, text]) => {
    const kernels = [...text.matchAll(KERNEL)].map(([, name, room]) => ({ name, room: room !== undefined }))
    return kernels.length === 0 ? [] : [{ file, kernels }]
  })
}

function kernelList() {
  const headers = kernelHeaders()
  const all = headers.flatMap(({ kernels }) => kernels)
  const macro = (name, of) => `#define ${name}(X)${of.map(({ name }) => ` \\\n  X(${name})`).join('')}\n`
  return `// Made by scripts/lists.mjs from the headers that state kernels.
#pragma once

${headers.map(({ file }) => `#include "kernels/${file}"\n`).join('')}
/// X(Kernel) for every kernel.
${macro('LOWRANK_KERNELS', all)}
/// X(Kernel) for kernels that need room beside their operands on some device.
${macro(
  'LOWRANK_KERNELS_WITH_ROOM',
  all.filter(({ room }) => room),
)}
namespace lowrank {

inline constexpr int kKernels = ${all.length};

}  // namespace lowrank
`
}

function kernelVariant() {
  return `// Made by scripts/lists.mjs from the headers that state kernels.
#pragma once

#include <variant>

#include "kernels/list.h"

namespace lowrank {

/// Any kernel.
using Kernel = std::variant<
${kernelHeaders()
  .flatMap(({ kernels }) => kernels.map(({ name }) => `    ${name}`))
  .join(',\n')}>;

}  // namespace lowrank
`
}

/** Headers that state terms of adapters, with their classes. */
function terms() {
  const found = filesOf('native/adapters', '_term.h').flatMap(([file, text]) =>
    [...text.matchAll(TERM)].map(([, name]) => ({ file, name })),
  )
  return `// Made by scripts/lists.mjs from the headers that state terms.
#pragma once

${found.map(({ file }) => `#include "adapters/${file}"\n`).join('')}
/// X(Term) for every kind of term.
#define LOWRANK_TERMS(X)${found.map(({ name }) => ` \\\n  X(${name})`).join('')}
`
}

/** What is compiled for each level of instruction sets: one include an area. */
function areas() {
  const folder = join(root, 'native/backends/cpu')
  const files = readdirSync(folder, { recursive: true })
    .filter(
      (file) => file.endsWith('.inl') && /^#pragma once$/m.test(readFileSync(join(folder, file), 'utf8')),
    )
    .sort()
  return `// Made by scripts/lists.mjs: all areas, for one level.
${files.map((file) => `#include "backends/cpu/${file}"\n`).join('')}`
}

/** Enumerations that CUDA's kernels know, which include nothing of the host. */
function deviceLists() {
  const known = lists.filter(({ device }) => device)
  return `// Made by scripts/lists.mjs from native/lists.json.
#pragma once

#include "kernel.h"

namespace lowrank::cuda {

${known.map(({ name, names }) => `enum class ${name} : int32_t { ${names.join(', ')} };\n`).join('')}
}  // namespace lowrank::cuda
`
}

function graphNodes() {
  const types = [
    ...new Set(
      nodes
        .flatMap(([, node]) => attributesOf(node))
        .filter(({ ts }) => !ts)
        .map(({ type }) => type),
    ),
  ]
  const node = ([name, { about, inputs, ends, ...node }]) => {
    const members = [
      `op: '${name}'`,
      ...inputs.map((role) => `${role}: number`),
      ...attributesOf(node).map(
        ({ key, optional, ts, type }) => `${key}${optional ? '?' : ''}: ${ts ?? type}`,
      ),
      ...(ends ? [] : ['out: number']),
    ]
    const line = `  | { ${members.join('; ')} }`
    const long = `  | {${members.map((member) => `\n      ${member}`).join('')}\n    }`
    return `${documented(about, '  ')}\n${line.length <= 110 ? line : long}\n`
  }
  const used = lists.filter(({ name }) => types.includes(name))
  return `/** Made by scripts/lists.mjs from the files of operations in native/ops. */
${used.map(({ name, about, names }) => `\n${documented(about)}\nexport ${declared(name, names)}\n`).join('')}
/** An operation with its inputs and attributes. Weights go by their names, values by their numbers. */
export type Operation =
${nodes.map(node).join('')}`
}

function module() {
  const own = lists.filter(({ typescript }) => typescript)
  return `/** Made by scripts/lists.mjs from native/lists.json. */
${own.map(({ name, about, names }) => `\n${documented(about)}\nexport ${declared(name, names)}\n`).join('')}
/** Tokens between positions at which operations keep their state, besides the end of a text. */
export const STATE_BLOCKS: Readonly<Record<string, number>> = {
${stateBlocks()
  .map(([name, block]) => `  ${name}: ${block},\n`)
  .join('')}}
`
}

/** The categories are walked in order; of all others the names are enough. */
function declared(name, names) {
  const line = `type ${name} = ${names.map((value) => `'${value}'`).join(' | ')}`
  if (name !== 'Category' && line.length < 100) return line
  if (name !== 'Category') return `type ${name} =${names.map((value) => `\n  | '${value}'`).join('')}`
  const values = names.map((value) => `\n  '${value}',`).join('')
  return `const CATEGORIES = [${values}\n] as const\n/** One of them. */\nexport type Category = (typeof CATEGORIES)[number]`
}
