/**
 * Makes templates convert values to text as Jinja does in Python: `True` and `None`, `1.0`, and literals of lists and
 * mappings. The template library converts some as JavaScript does and refuses others.
 */
import type { parse } from '@huggingface/jinja'
import { type JsonStyle, pythonJson, pythonText } from './python-text.js'
import { entriesOf } from './python-values.js'
import { plainValue, type TemplateValue } from './template-values.js'

type Program = ReturnType<typeof parse>

interface Node {
  type: string
  [field: string]: unknown
}

/** Names of the functions that stand for what a template says otherwise; no template can contain them. */
const JOIN = ' join'
const TO_JSON = ' tojson'
const TEXTS = ' texts'

/** The program with calls of functions where it converts values: `{{ }}`, `~`, and some filters. */
export function withPythonStrings(program: Program): Program {
  return changed(program) as Program
}

/** The variables that a changed program needs. */
export const PYTHON_STRINGS: Readonly<Record<string, unknown>> = {
  [JOIN]: (values: readonly TemplateValue[]) => values.map((value) => pythonText(plainValue(value))).join(''),
  [TO_JSON]: ([value]: readonly TemplateValue[], style: ReadonlyMap<string, TemplateValue>) =>
    pythonJson(plainValue(value as TemplateValue), styleOf(style)),
  [TEXTS]: ([value]: readonly TemplateValue[]) => textsOf(plainValue(value as TemplateValue)),
}

/** The items that the filter `join` joins. */
function textsOf(value: unknown): readonly string[] {
  if (typeof value === 'string') return [...value]
  return Array.isArray(value) ? value.map(pythonText) : entriesOf(value).map(([key]) => key)
}

function changed(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(changed)
  if (typeof value !== 'object' || value === null) return value
  const node = Object.assign(Object.create(Object.getPrototypeOf(value)), value) as Node
  for (const [field, inner] of Object.entries(node)) {
    const parts = changed(inner)
    node[field] = BLOCKS.has(field) && Array.isArray(parts) ? parts.map(written) : parts
  }
  const { filter, operator } = node as { filter?: Node; operator?: { value?: unknown } }
  if (node.type === 'BinaryExpression' && operator?.value === '~') return call(JOIN, [node.left, node.right])
  if (node.type !== 'FilterExpression' || filter === undefined) return node
  const { value: name } = (filter.type === 'CallExpression' ? filter.callee : filter) as Node
  if (name === 'string') return call(JOIN, [node.operand])
  if (name === 'join') node.operand = call(TEXTS, [node.operand])
  return name === 'tojson' ? call(TO_JSON, [node.operand], styleArguments(filter)) : node
}

/** Fields with statements. */
const BLOCKS = new Set(['body', 'alternate', 'defaultBlock'])
/** Statements that write nothing themselves. */
const UNWRITTEN = new Set('If For Set Macro CallStatement FilterStatement Break Continue Comment'.split(' '))

/** An expression in `{{ }}` as text. */
function written(statement: Node): Node {
  return UNWRITTEN.has(statement.type) || isText(statement) ? statement : call(JOIN, [statement])
}

/** True for an expression that can only be text. */
function isText({ type, operator, left, right, callee }: Node): boolean {
  if (type === 'BinaryExpression' && (operator as { value?: unknown }).value === '+')
    return isText(left as Node) || isText(right as Node)
  return type === 'StringLiteral' || [JOIN, TO_JSON].includes((callee as Node | undefined)?.value as string)
}

function call(name: string, values: readonly unknown[], more: readonly unknown[] = []): Node {
  // In a list, values come with their types; as arguments, null and undefined would be the same.
  const list = { type: 'ArrayLiteral', value: values }
  return { type: 'CallExpression', callee: identifier(name), args: [list, ...more] }
}

const identifier = (value: string): Node => ({ type: 'Identifier', value })

/** Parameters of the filter `tojson`, in the order of transformers. */
const STYLE = ['ensure_ascii', 'indent', 'separators', 'sort_keys']

/** The arguments of `tojson`, all with their names. */
function styleArguments({ type, args }: Node): unknown[] {
  if (type !== 'CallExpression') return []
  return (args as Node[]).map((value, place) =>
    /^Keyword|^Spread/.test(value.type)
      ? value
      : { type: 'KeywordArgumentExpression', key: identifier(STYLE[place] ?? ''), value },
  )
}

function styleOf(style: ReadonlyMap<string, TemplateValue> = new Map()): JsonStyle {
  const [ensureAscii, indent, separators, sortKeys] = STYLE.map((name) => {
    const given = style.get(name)
    return given && (plainValue(given) ?? undefined)
  })
  return {
    ensureAscii: ensureAscii === true,
    sortKeys: sortKeys === true,
    ...(indent === undefined
      ? {}
      : { indent: typeof indent === 'string' ? indent : ' '.repeat(Number(indent)) }),
    ...(separators === undefined ? {} : { separators: separators as [string, string] }),
  }
}
