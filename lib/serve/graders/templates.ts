/** Texts of graders with variables: `{{ item.answer }}` of a row, and `{{ sample.output_text }}` of an answer. */

/** An answer and its row, from which graders read. */
export interface Observed {
  /** The answer of the model. */
  output: string
  /** The columns of the row except its prompt. */
  item: Readonly<Record<string, unknown>>
}

/** A variable: where it looks, and the keys and places from there. */
export interface Variable {
  /** As it was written. */
  name: string
  of: 'item' | 'output_text' | 'output_json'
  path: readonly (string | number)[]
}

/** A text in parts. */
export type Template = readonly (string | Variable)[]

/** Why a grader could not look at something, by the names that clients know. */
export class GraderProblem extends Error {
  constructor(
    readonly kind: 'sample_parse_error' | 'invalid_variable_error' | 'other_error',
    message: string,
    /** True if the row is at fault, and not the answer. */
    readonly ofItem = false,
  ) {
    super(message)
  }
}

const VARIABLE = /\{\{([^{}]*)\}\}/
const NAME = /^(?:item|sample)(?:\.[\w-]+|\[\d+\])+$/
const STEP = /\.([\w-]+)|\[(\d+)\]/g

/** @throws {Error} that says which part is no variable */
export function parseTemplate(text: string): Template {
  return text.split(VARIABLE).flatMap((part, index) => {
    if (index % 2 === 1) return variableOf(part.trim())
    if (/\{\{|\}\}/.test(part))
      throw new Error('{{ and }} belong around a variable, such as {{ item.answer }}')
    return part === '' ? [] : part
  })
}

function variableOf(name: string): Variable {
  if (!NAME.test(name)) throw new Error(`{{ ${name} }} is no variable of item or sample`)
  const steps = [...name.matchAll(STEP)].map(([, key, place]) => key ?? Number(place))
  if (name.startsWith('item')) return { name, of: 'item', path: steps }
  const [first, ...path] = steps
  if (first === 'output_json') return { name, of: first, path }
  if (first === 'output_text' && path.length === 0) return { name, of: first, path }
  throw new Error(`{{ ${name} }} is not supported; an answer has sample.output_text and sample.output_json`)
}

/** The text for an answer. @throws {GraderProblem} for a variable without a value */
export function filled(template: Template, observed: Observed): string {
  return template
    .map((part) => {
      if (typeof part === 'string') return part
      const value = valueIn(part, observed)
      return typeof value === 'string' ? value : JSON.stringify(value)
    })
    .join('')
}

/** @throws {GraderProblem} when there is none */
export function valueIn({ name, of, path }: Variable, { output, item }: Observed): unknown {
  if (of === 'output_text') return output
  let value: unknown = of === 'item' ? item : parsed(output)
  for (const step of path) {
    if (typeof value !== 'object' || value === null || !Object.hasOwn(value, step))
      throw new GraderProblem('invalid_variable_error', `there is no ${name}`, of === 'item')
    value = (value as Record<string | number, unknown>)[step]
  }
  return value
}

function parsed(output: string): unknown {
  try {
    return JSON.parse(output)
  } catch {
    throw new GraderProblem('sample_parse_error', 'the answer is not JSON')
  }
}
