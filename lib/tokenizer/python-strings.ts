/**
 * Makes templates convert values to text as Jinja does in Python: `True` and `None`, and literals of lists and mappings.
 * The template library converts some as JavaScript does and refuses others.
 */
import type { parse } from '@huggingface/jinja'
import { pythonText } from './python-text.js'

type Program = ReturnType<typeof parse>

interface Node {
  type: string
  [field: string]: unknown
}

/** Name of the function that stands for the filter `string` and the operator `~`; no template can contain it. */
const JOIN = ' join'

/** The program with calls of a function in place of the filter `string` and the operator `~`. */
export function withPythonStrings(program: Program): Program {
  return changed(program) as Program
}

/** The variables that a changed program needs. */
export const PYTHON_STRINGS: Readonly<Record<string, unknown>> = {
  [JOIN]: (values: readonly Value[]) => values.map((value) => pythonText(plain(value))).join(''),
}

function changed(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(changed)
  if (typeof value !== 'object' || value === null) return value
  const node = Object.assign(Object.create(Object.getPrototypeOf(value)), value) as Node
  for (const [field, inner] of Object.entries(node)) node[field] = changed(inner)
  const { filter, operator } = node as { filter?: Node; operator?: { value?: unknown } }
  if (node.type === 'FilterExpression' && filter?.type === 'Identifier' && filter.value === 'string')
    return call(node.operand)
  if (node.type === 'BinaryExpression' && operator?.value === '~') return call(node.left, node.right)
  return node
}

function call(...args: unknown[]): Node {
  // In a list, values come with their types; as arguments, null and undefined would be the same.
  const list = { type: 'ArrayLiteral', value: args }
  return { type: 'CallExpression', callee: { type: 'Identifier', value: JOIN }, args: [list] }
}

/** A value of the library. */
interface Value {
  type: string
  value: unknown
}

/** The value itself, but numbers as the library has them, which writes 1.0 as Python does. */
function plain(wrapped: Value): unknown {
  const { type, value } = wrapped
  if (type === 'NullValue') return null
  if (Array.isArray(value)) return value.map(plain)
  if (value instanceof Map) return new Map([...value].map(([key, inner]) => [key, plain(inner)]))
  return type === 'FloatValue' ? wrapped : value
}
