/** Between values as Python reads them (python-values.ts) and those of the template library. */
import { Environment } from '@huggingface/jinja'
import { entriesOf, floatValue, isWholeFloat } from './python-values.js'

/** A value of the library. */
export interface TemplateValue {
  type: string
  value: unknown
}

type Class = new (value: unknown) => TemplateValue

const classOf = (sample: unknown) => new Environment().set('sample', sample).constructor as Class

// The library has these classes but does not export them, and converts numbers and objects only as JavaScript has them.
const StringValue = classOf('')
const IntegerValue = classOf(0)
const FloatValue = classOf(0.5)
const ArrayValue = classOf([])
const ObjectValue = classOf({})

/** Declares a variable of a template. */
export function declare(environment: Environment, name: string, value: unknown): void {
  const given = templateValue(value)
  environment.setVariable(name, given as ReturnType<Environment['lookupVariable']>)
}

function templateValue(value: unknown): TemplateValue {
  if (typeof value === 'string') return new StringValue(value)
  if (typeof value === 'bigint') return new IntegerValue(value)
  if (isWholeFloat(value)) return new FloatValue(value.valueOf())
  if (Array.isArray(value)) return new ArrayValue(value.map(templateValue))
  if (typeof value !== 'object' || value === null) return simpleValue(value)
  return new ObjectValue(new Map(entriesOf(value).map(([key, inner]) => [key, templateValue(inner)])))
}

const scratch = new Environment()

function simpleValue(value: unknown): TemplateValue {
  scratch.variables.delete('value')
  return scratch.set('value', value)
}

/** The value as Python reads it. */
export function plainValue({ type, value }: TemplateValue): unknown {
  if (type === 'NullValue') return null
  if (type === 'FloatValue') return floatValue(value as number)
  if (Array.isArray(value)) return value.map(plainValue)
  if (value instanceof Map) return new Map([...value].map(([key, inner]) => [key, plainValue(inner)]))
  return value
}
