/**
 * The syntax of chat templates. A library reads Jinja into a tree, with `trim_blocks` and `lstrip_blocks` as transformers
 * sets them; tests with arguments, which it does not know, are read as filters.
 */
import { parse as parseTokens, tokenize } from '@huggingface/jinja'

type Token = ReturnType<typeof tokenize>[number]

export interface Name {
  type: 'Identifier'
  value: string
}

export interface Call {
  type: 'CallExpression'
  callee: Node
  args: readonly Node[]
}

export interface NamedArgument {
  type: 'KeywordArgumentExpression'
  key: Name
  value: Node
}

export type Parameter = Name | NamedArgument
export type Body = readonly Node[]

/** A node of the library's tree. */
export type Node =
  | Name
  | Call
  | NamedArgument
  | { type: 'Program'; body: Body }
  | { type: 'If'; test: Node; body: Body; alternate: Body }
  | { type: 'For'; loopvar: Node; iterable: Node; body: Body; defaultBlock: Body }
  | { type: 'Set'; assignee: Node; value: Node | null; body: Body }
  | { type: 'Macro'; name: Name; args: readonly Parameter[]; body: Body }
  | { type: 'CallStatement'; call: Call; callerArgs: readonly Parameter[] | null; body: Body }
  | { type: 'FilterStatement'; filter: Name | Call; body: Body }
  | { type: 'Break' | 'Continue' | 'Comment' }
  | { type: 'IntegerLiteral' | 'FloatLiteral'; value: number }
  | { type: 'StringLiteral'; value: string }
  | { type: 'ArrayLiteral' | 'TupleLiteral'; value: readonly Node[] }
  | { type: 'ObjectLiteral'; value: ReadonlyMap<Node, Node> }
  | { type: 'MemberExpression'; object: Node; property: Node; computed: boolean }
  | { type: 'SliceExpression'; start?: Node; stop?: Node; step?: Node }
  | { type: 'UnaryExpression'; operator: { value: string }; argument: Node }
  | { type: 'BinaryExpression'; operator: { value: string }; left: Node; right: Node }
  | { type: 'FilterExpression'; operand: Node; filter: Name | Call }
  | { type: 'TestExpression'; operand: Node; negate: boolean; test: Name }
  | { type: 'SelectExpression'; lhs: Node; test: Node }
  | { type: 'Ternary'; condition: Node; trueExpr: Node; falseExpr: Node }
  | { type: 'SpreadExpression' | 'KeywordSpreadExpression'; argument: Node }

/**
 * Marks for `{% generation %}` and `{% endgeneration %}` in a rendered text: noncharacters, which valid text never
 * contains.
 */
export const OPEN = '\ufdd0'
export const CLOSE = '\ufdd1'

/** Begins the name of a filter that stands for a test; no template can contain it. */
export const TEST_FILTER = ' is '
export const NOT_TEST_FILTER = ' is not '

/**
 * @param marks whether parts between `{% generation %}` tags are enclosed in marks
 * @throws {Error} when the source is not valid Jinja
 */
export function parse(source: string, marks: boolean): Body {
  const tokens = tokenize(preprocess(source, marks))
  refuseChains(tokens)
  refuseLists(tokens)
  refuseLargeIntegers(tokens)
  const program = parseTokens(withTestArguments(tokens)) as unknown as { body: Body }
  return program.body
}

/**
 * Does the library's preprocessing (line feeds for all ends of lines, as in Python; drop the final line feed,
 * `lstrip_blocks`, `trim_blocks`, remove `generation` tags) in advance, so that marks can replace those tags without
 * changing white space.
 */
function preprocess(source: string, marks: boolean): string {
  const text = source
    .replace(/\r\n?/g, '\n')
    .replace(/\n$/, '')
    .replace(/^[ \t]*(\{[#%-])/gm, '$1')
    .replace(/([#%-]\})\n/g, '$1')
  const tag = /(\s*)\{%(-?)\s*(end)?generation\s*(-?)%\}(\s*)/g
  return text.replace(tag, (whole, before, left, end, right, after, offset: number) => {
    let [front, back] = [left ? '' : before, right ? '' : after]
    // A neighboring tag that strips this side would strip across the removed tag, but not across a mark.
    const strips =
      /-[%}#]\}$/.test(text.slice(0, offset)) || /^\{[%{#]-/.test(text.slice(offset + whole.length))
    if (strips) [front, back] = ['', '']
    if (!marks) return front + back
    return end ? `{{ '${CLOSE}' }}${front}${back}` : `${front}{{ '${OPEN}' }}${back}`
  })
}

const isName = (token: Token | undefined, ...names: string[]) =>
  token?.type === 'Identifier' && (names.length === 0 || names.includes(token.value))

/** Reads `x is divisibleby(3)` and `x is in y` as `x | divisibleby(3)` with the name of a test. */
function withTestArguments(tokens: readonly Token[]): Token[] {
  const read: Token[] = []
  for (let at = 0; at < tokens.length; at++) {
    const token = tokens[at] as Token
    const negated = isName(tokens[at + 1], 'not')
    const name = at + (negated ? 2 : 1)
    const argument = isName(token, 'is') && isName(tokens[name]) ? argumentEnd(tokens, name + 1) : undefined
    if (argument === undefined) {
      read.push(token)
      continue
    }
    const test = `${negated ? NOT_TEST_FILTER : TEST_FILTER}${tokens[name]?.value}`
    const given = withTestArguments(tokens.slice(name + 1, argument))
    const enclosed = given[0]?.type === 'OpenParen' ? given : [mark('('), ...given, mark(')')]
    read.push({ value: '|', type: 'Pipe' }, { value: test, type: 'Identifier' }, ...enclosed)
    at = argument - 1
  }
  return read
}

const mark = (value: '(' | ')'): Token => ({ value, type: value === '(' ? 'OpenParen' : 'CloseParen' })

const ARGUMENT_STARTS = [
  ...['StringLiteral', 'NumericLiteral', 'OpenParen', 'OpenSquareBracket', 'OpenCurlyBracket'],
]
const OPENING = ['OpenParen', 'OpenSquareBracket', 'OpenCurlyBracket']
const CLOSING = ['CloseParen', 'CloseSquareBracket', 'CloseCurlyBracket']

/** End of the argument of a test that starts at `at`; undefined if there is none. */
function argumentEnd(tokens: readonly Token[], at: number): number | undefined {
  const first = tokens[at]
  if (first === undefined) return undefined
  const names = isName(first) && !isName(first, 'and', 'or', 'not', 'is', 'in', 'if', 'else')
  if (!names && !ARGUMENT_STARTS.includes(first.type)) return undefined
  let end = OPENING.includes(first.type) ? closing(tokens, at) : at + 1
  if (first.type === 'OpenParen') return end
  for (;;) {
    if (tokens[end]?.type === 'Dot') end += 2
    else if (['OpenParen', 'OpenSquareBracket'].includes(tokens[end]?.type ?? '')) end = closing(tokens, end)
    else return end
  }
}

/** The place behind the bracket that closes the one at `at`. */
function closing(tokens: readonly Token[], at: number): number {
  let depth = 0
  for (let end = at; end < tokens.length; end++) {
    const { type } = tokens[end] as Token
    if (OPENING.includes(type)) depth++
    if (CLOSING.includes(type) && --depth === 0) return end + 1
  }
  throw new Error('a bracket is not closed')
}

/** The library reads `a < b < c` as `(a < b) < c`. */
function refuseChains(tokens: readonly Token[]): void {
  const counts = [0]
  for (const [at, { type, value }] of tokens.entries()) {
    if (OPENING.includes(type)) counts.push(0)
    else if (CLOSING.includes(type)) counts.pop()
    const isIn = isName(tokens[at], 'in') && !isName(tokens[at - 1], 'is')
    if (type === 'ComparisonBinaryOperator' || isIn) counts[counts.length - 1] = (counts.at(-1) ?? 0) + 1
    else if (SEPARATORS.includes(type) || isName(tokens[at], 'and', 'or', 'not', 'if', 'else'))
      if (!(value === 'not' && isName(tokens[at + 1], 'in'))) counts[counts.length - 1] = 0
    if ((counts.at(-1) ?? 0) > 1 && !isLoop(tokens, at))
      throw new Error('comparisons in a chain, such as a < b < c, are not supported')
  }
}

/** The library reads `[a b]` as `[a, b]`, and so a list comprehension of Python as a list. */
function refuseLists(tokens: readonly Token[]): void {
  let depth = 0
  for (const [at, token] of tokens.entries()) {
    const before = tokens[at - 1]
    if (OPENING.includes(token.type)) depth++
    if (
      depth > 0 &&
      isValue(before) &&
      isValue(token) &&
      !isTest(tokens, at - 1) &&
      !bothTexts(before, token)
    )
      throw new Error(`nothing is between ${before?.value} and ${token.value}, such as a comma`)
    if (CLOSING.includes(token.type)) depth--
  }
}

const WORDS = ['and', 'or', 'not', 'is', 'in', 'if', 'else']
const LITERALS = ['StringLiteral', 'NumericLiteral']

const isValue = (token: Token | undefined): boolean =>
  token !== undefined && (LITERALS.includes(token.type) || (isName(token) && !isName(token, ...WORDS)))

/** True for the name of a test, whose argument may follow without brackets. */
const isTest = (tokens: readonly Token[], at: number): boolean =>
  isName(tokens[at - 1], 'is') || (isName(tokens[at - 1], 'not') && isName(tokens[at - 2], 'is'))

const bothTexts = (a: Token | undefined, b: Token): boolean =>
  a?.type === 'StringLiteral' && b.type === 'StringLiteral'

/** The library reads integers as floats. */
function refuseLargeIntegers(tokens: readonly Token[]): void {
  for (const { type, value } of tokens)
    if (type === 'NumericLiteral' && /^\d+$/.test(value) && !Number.isSafeInteger(Number(value)))
      throw new Error(`the integer ${value} is not supported; the largest is ${Number.MAX_SAFE_INTEGER}`)
}

const SEPARATORS = [
  ...['OpenStatement', 'OpenExpression', 'CloseStatement', 'CloseExpression'],
  ...['Comma', 'Colon', 'Equals'],
]

/** True for a comparison in the iterable of a loop, whose `in` is not one. */
function isLoop(tokens: readonly Token[], at: number): boolean {
  const start = tokens.findLastIndex(({ type }, index) => index < at && type === 'OpenStatement')
  return isName(tokens[start + 1], 'for')
}
