/**
 * Runs templates as Jinja runs them in Python. The body of a loop has its own variables in each pass, and a macro sees
 * those of the place where it is written.
 */
import { floatValue, Tuple } from '../python-values.js'
import { attributeOf, itemOf, sliceOf } from './attributes.js'
import { filterNamed } from './filters.js'
import { OPERATORS, UNARY } from './operators.js'
import {
  type Body,
  type Call,
  type Name,
  NOT_TEST_FILTER,
  type Node,
  type Parameter,
  TEST_FILTER,
} from './syntax.js'
import { testNamed } from './tests.js'
import {
  type Arguments,
  type Callable,
  defined,
  Fields,
  isCallable,
  isEqual,
  isTrue,
  itemsOf,
  Markup,
  textOf,
  typeName,
  Undefined,
  type Value,
} from './values.js'

/** Variables of a part of a template. */
export class Scope {
  readonly #variables: Map<string, Value>
  readonly #outer: Scope | undefined

  constructor(variables: ReadonlyMap<string, Value>, outer?: Scope) {
    this.#variables = new Map(variables)
    this.#outer = outer
  }

  get(name: string): Value {
    if (this.#variables.has(name)) return this.#variables.get(name)
    if (this.#outer !== undefined) return this.#outer.get(name)
    // Jinja's own variable, through which a template reaches its blocks.
    if (name === 'self') throw new Error('it uses "self", which is not supported')
    return new Undefined(name)
  }

  set(name: string, value: Value): void {
    this.#variables.set(name, value)
  }
}

const inside = (scope: Scope) => new Scope(new Map(), scope)

/** How a part of a loop ends early. */
type End = 'break' | 'continue' | undefined

/** The text of a template with these variables. */
export function render(body: Body, scope: Scope): string {
  const out: string[] = []
  run(body, scope, out)
  return out.join('')
}

function run(body: Body, scope: Scope, out: string[]): End {
  for (const node of body) {
    const end = runOne(node, scope, out)
    if (end !== undefined) return end
  }
  return undefined
}

function runOne(node: Node, scope: Scope, out: string[]): End {
  switch (node.type) {
    case 'If':
      return run(isTrue(evaluate(node.test, scope)) ? node.body : node.alternate, scope, out)
    case 'For':
      runLoop(node, scope, out)
      return undefined
    case 'Set':
      assign(node.assignee, node.value ? marked(node.value, scope) : render(node.body, inside(scope)), scope)
      return undefined
    case 'Macro':
      scope.set(node.name.value, macro(node.name.value, node.args, node.body, scope))
      return undefined
    case 'CallStatement': {
      const caller = macro('caller', node.callerArgs ?? [], node.body, scope)
      out.push(textOf(call(node.call, scope, caller)))
      return undefined
    }
    case 'FilterStatement':
      out.push(textOf(filtered(render(node.body, inside(scope)), node.filter, scope)))
      return undefined
    case 'Break':
      return 'break'
    case 'Continue':
      return 'continue'
    case 'Comment':
      return undefined
    default:
      out.push(textOf(evaluate(node, scope)))
      return undefined
  }
}

function runLoop(node: Node & { type: 'For' }, scope: Scope, out: string[]): void {
  const { iterable, loopvar } = node
  const condition = iterable.type === 'SelectExpression' ? iterable.test : undefined
  const source = iterable.type === 'SelectExpression' ? iterable.lhs : iterable
  const value = evaluate(source, scope)
  if (value === null) throw new Error(`it has a loop over ${sourceOf(source)}, which is none`)
  const items = itemsOf(value).filter((item) => {
    if (condition === undefined) return true
    const trial = inside(scope)
    assign(loopvar, item, trial)
    return isTrue(evaluate(condition, trial))
  })
  if (items.length === 0) run(node.defaultBlock, inside(scope), out)
  const changed = changes()
  for (const index of items.keys()) {
    const pass = inside(scope)
    pass.set('loop', loopFields(items, index, changed))
    assign(loopvar, items[index], pass)
    if (run(node.body, pass, out) === 'break') return
  }
}

function loopFields(items: readonly Value[], index: number, changed: Callable): Fields {
  const near = (place: number, name: string) =>
    place in items ? items[place] : new Undefined(`loop.${name}`)
  const fields: Record<string, Value> = {
    ...{ index: index + 1, index0: index, length: items.length, depth: 1, depth0: 0 },
    ...{ revindex: items.length - index, revindex0: items.length - index - 1 },
    ...{ first: index === 0, last: index === items.length - 1 },
    ...{ previtem: near(index - 1, 'previtem'), nextitem: near(index + 1, 'nextitem') },
    cycle: ({ positional }: Arguments) => positional[index % positional.length],
    changed,
  }
  return new Fields('loop', new Map(Object.entries(fields)))
}

/** The function `loop.changed`: whether its arguments are others than at its last call. */
function changes(): Callable {
  let last: readonly Value[] | undefined
  return ({ positional }) => {
    const same = last !== undefined && isEqual([...last], [...positional])
    last = positional
    return !same
  }
}

function assign(target: Node, value: Value, scope: Scope): void {
  if (target.type === 'Identifier') {
    scope.set(target.value, value)
    return
  }
  if (target.type === 'TupleLiteral') {
    const items = itemsOf(value)
    if (items.length !== target.value.length)
      throw new Error(`${items.length} values are assigned to ${target.value.length} names`)
    for (const [place, inner] of target.value.entries()) assign(inner, items[place], scope)
    return
  }
  const object = target.type === 'MemberExpression' ? evaluate(target.object, scope) : undefined
  if (
    target.type !== 'MemberExpression' ||
    !(object instanceof Fields) ||
    target.property.type !== 'Identifier'
  )
    throw new Error(
      `"set" assigns to ${sourceOf(target)}, which is not a variable or an attribute of a namespace`,
    )
  object.entries.set(target.property.value, value)
}

function macro(name: string, parameters: readonly Parameter[], body: Body, scope: Scope): Callable {
  const takesMore = mentions(body, 'varargs')
  const takesNamed = mentions(body, 'kwargs')
  return ({ positional, named }) => {
    const inner = inside(scope)
    const left = new Map(named)
    const caller = left.get('caller') ?? new Undefined('caller')
    left.delete('caller')
    const names = parameters.map(
      (parameter) => (parameter.type === 'Identifier' ? parameter : parameter.key).value,
    )
    for (const [place, key] of names.entries()) {
      if (place < positional.length) inner.set(key, positional[place])
      else inner.set(key, left.has(key) ? left.get(key) : new Undefined(key))
    }
    for (const [place, parameter] of parameters.entries()) {
      if (parameter.type === 'Identifier' || place < positional.length || left.has(parameter.key.value))
        continue
      inner.set(parameter.key.value, evaluate(parameter.value, inner))
    }
    for (const key of names) left.delete(key)
    const more = positional.slice(names.length)
    if (more.length > 0 && !takesMore) throw new Error(`the macro ${name} takes ${names.length} arguments`)
    if (left.size > 0 && !takesNamed)
      throw new Error(`the macro ${name} has no parameter "${[...left.keys()].join('", "')}"`)
    inner.set('varargs', Tuple.from(more))
    inner.set('kwargs', left)
    inner.set('caller', caller)
    return render(body, inner)
  }
}

/** True if a part of the tree uses the variable. */
function mentions(part: unknown, name: string): boolean {
  if (part instanceof Map) return [...part].flat().some((inner) => mentions(inner, name))
  if (typeof part !== 'object' || part === null) return false
  if ((part as Node).type === 'Identifier') return (part as Name).value === name
  return Object.values(part).some((inner) => mentions(inner, name))
}

function evaluate(node: Node, scope: Scope): Value {
  return evaluated(marked(node, scope))
}

const evaluated = (value: Value) => (value instanceof Markup ? value.text : value)

function plus(first: Value, second: Value): Value {
  const texts = [first, second].every((value) => typeof evaluated(value) === 'string')
  if (texts && (first instanceof Markup || second instanceof Markup))
    return new Markup(Markup.of(first).text + Markup.of(second).text)
  return OPERATORS['+']?.(evaluated(first), evaluated(second))
}

/** Filters whose result is Markup if their text is. */
const KEEP_MARKUP = new Set('capitalize default indent lower string title trim upper'.split(' '))

function filterMarked({ operand, filter }: Node & { type: 'FilterExpression' }, scope: Scope): Value {
  const value = marked(operand, scope)
  const result = filtered(evaluated(value), filter, scope)
  const name = ((filter.type === 'Identifier' ? filter : filter.callee) as Name).value
  const marks = name === 'safe' || (value instanceof Markup && KEEP_MARKUP.has(name))
  return marks && typeof result === 'string' ? new Markup(result) : result
}

/** The value, which may be Markup. */
function marked(node: Node, scope: Scope): Value {
  switch (node.type) {
    case 'IntegerLiteral':
    case 'StringLiteral':
      return node.value
    case 'FloatLiteral':
      return floatValue(node.value)
    case 'ArrayLiteral':
      return node.value.map((item) => evaluate(item, scope))
    case 'TupleLiteral':
      return Tuple.from(node.value.map((item) => evaluate(item, scope)))
    case 'ObjectLiteral':
      return new Map(
        [...node.value].map(([key, value]) => [keyOf(evaluate(key, scope)), evaluate(value, scope)]),
      )
    case 'Identifier':
      return scope.get(node.value)
    case 'MemberExpression':
      return member(node, scope)
    case 'CallExpression':
      return call(node, scope)
    case 'UnaryExpression':
      return operator(UNARY, node.operator.value)(evaluate(node.argument, scope))
    case 'BinaryExpression':
      return binary(node, scope)
    case 'FilterExpression':
      return filterMarked(node, scope)
    case 'TestExpression':
      return testNamed(node.test.value)(evaluate(node.operand, scope), undefined) !== node.negate
    case 'Ternary':
      return marked(isTrue(evaluate(node.condition, scope)) ? node.trueExpr : node.falseExpr, scope)
    case 'SelectExpression':
      return isTrue(evaluate(node.test, scope))
        ? evaluate(node.lhs, scope)
        : new Undefined('an "if" without "else"')
    default:
      throw new Error(`it has a ${node.type} where a value should be`)
  }
}

function operator<T>(table: Readonly<Record<string, T>>, symbol: string): T {
  const found = Object.hasOwn(table, symbol) ? table[symbol] : undefined
  if (found === undefined) throw new Error(`it uses the operator "${symbol}", which is unknown`)
  return found
}

function keyOf(value: Value): Value {
  if (typeof value === 'string' || typeof value === 'number' || value === null) return value
  throw new Error(
    `a mapping has a key of type ${typeName(defined(value))}; only texts and integers are supported`,
  )
}

function binary(
  { operator: { value: symbol }, left, right }: Node & { type: 'BinaryExpression' },
  scope: Scope,
) {
  const first = marked(left, scope)
  if (symbol === '+') return plus(first, marked(right, scope))
  if (symbol === 'and') return isTrue(evaluated(first)) ? marked(right, scope) : first
  if (symbol === 'or') return isTrue(evaluated(first)) ? first : marked(right, scope)
  return operator(OPERATORS, symbol)(evaluated(first), evaluate(right, scope))
}

function member(node: Node & { type: 'MemberExpression' }, scope: Scope): Value {
  const { property, computed } = node
  const object = evaluate(node.object, scope)
  if (property.type === 'SliceExpression') {
    const bound = (given: Node | undefined) => (given === undefined ? null : evaluate(given, scope))
    return sliceOf(object, bound(property.start), bound(property.stop), bound(property.step))
  }
  if (!computed && property.type === 'Identifier') return attributeOf(object, property.value, sourceOf(node))
  return itemOf(object, evaluate(property, scope), sourceOf(node))
}

function call({ callee, args }: Call, scope: Scope, caller?: Callable): Value {
  const callable = evaluate(callee, scope)
  if (!isCallable(callable)) throw new Error(`it calls ${sourceOf(callee)}(), which is not a known function`)
  const given = argumentsOf(args, scope)
  return callable(caller ? { ...given, named: new Map([...given.named, ['caller', caller]]) } : given)
}

function argumentsOf(args: readonly Node[], scope: Scope): Arguments {
  const positional: Value[] = []
  const named = new Map<string, Value>()
  for (const argument of args) {
    if (argument.type === 'KeywordArgumentExpression')
      named.set(argument.key.value, evaluate(argument.value, scope))
    else if (argument.type === 'SpreadExpression')
      positional.push(...itemsOf(evaluate(argument.argument, scope)))
    else if (argument.type === 'KeywordSpreadExpression') {
      const more = defined(evaluate(argument.argument, scope))
      if (!(more instanceof Map)) throw new Error(`"**" does not take a value of type ${typeName(more)}`)
      for (const [key, value] of more) named.set(String(key), value)
    } else positional.push(evaluate(argument, scope))
  }
  return { positional, named }
}

function filtered(value: Value, filter: Name | Call, scope: Scope): Value {
  const { value: name } = (filter.type === 'Identifier' ? filter : filter.callee) as Name
  const args = argumentsOf(filter.type === 'Identifier' ? [] : filter.args, scope)
  const [argument] = args.positional
  if (name.startsWith(NOT_TEST_FILTER)) return !testNamed(name.slice(NOT_TEST_FILTER.length))(value, argument)
  if (name.startsWith(TEST_FILTER)) return testNamed(name.slice(TEST_FILTER.length))(value, argument)
  return filterNamed(name)(value, args)
}

/** An expression as a template has it, for messages. */
function sourceOf(node: Node): string {
  if (node.type === 'Identifier') return node.value
  if (node.type === 'StringLiteral') return `'${node.value.slice(0, 80)}'`
  if (node.type === 'IntegerLiteral') return String(node.value)
  if (node.type === 'CallExpression') return `${sourceOf(node.callee)}(…)`
  if (node.type === 'UnaryExpression') return `${node.operator.value}${sourceOf(node.argument)}`
  if (node.type !== 'MemberExpression') return '…'
  const [object, property] = [sourceOf(node.object), sourceOf(node.property)]
  return node.computed ? `${object}[${property}]` : `${object}.${property}`
}
