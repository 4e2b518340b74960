/** Formulas over the rewards of graders, such as `0.7 * exact + max(0, close)`: parsed here, and never evaluated as code. */

/** Computes a formula from the values of its names. */
export type Formula = (values: Readonly<Record<string, number>>) => number

const FUNCTIONS: Readonly<Record<string, { compute: (...values: number[]) => number; many?: true }>> = {
  min: { compute: Math.min, many: true },
  max: { compute: Math.max, many: true },
  abs: { compute: Math.abs },
  floor: { compute: Math.floor },
  ceil: { compute: Math.ceil },
  exp: { compute: Math.exp },
  sqrt: { compute: Math.sqrt },
  log: { compute: Math.log },
}
const BINARY: Readonly<Record<string, (a: number, b: number) => number>> = {
  '+': (a, b) => a + b,
  '-': (a, b) => a - b,
  '*': (a, b) => a * b,
  '/': (a, b) => a / b,
  '^': (a, b) => a ** b,
}
const TOKEN = /\s*(?:(\d+\.?\d*(?:[eE][+-]?\d+)?|\.\d+(?:[eE][+-]?\d+)?)|([A-Za-z_]\w*)|([-+*/^(),]))/y
const DEEPEST = 64

/** True for a name that formulas may have. */
export function isName(text: string): boolean {
  return /^[A-Za-z_]\w*$/.test(text) && !Object.hasOwn(FUNCTIONS, text)
}

/** @param names those that have values @throws {Error} that says what is wrong, and where */
export function parseFormula(text: string, names: readonly string[]): Formula {
  return new Parser(text, names).formula()
}

class Parser {
  readonly #text: string
  readonly #names: readonly string[]
  /** Place of the next token, which was read already. */
  #at = 0
  #next: string | undefined
  #end = 0
  #depth = 0

  constructor(text: string, names: readonly string[]) {
    this.#text = text
    this.#names = names
    this.#read()
  }

  formula(): Formula {
    const whole = this.#sum()
    if (this.#next !== undefined) throw this.#unexpected()
    return whole
  }

  #read(): void {
    TOKEN.lastIndex = this.#end
    const found = TOKEN.exec(this.#text)
    if (found === null && this.#text.slice(this.#end).trim() !== '') {
      this.#at = this.#end + this.#text.slice(this.#end).search(/\S/)
      this.#next = this.#text[this.#at]
      throw this.#unexpected()
    }
    this.#next = found?.slice(1).find((part) => part !== undefined)
    this.#end = found === null ? this.#text.length : TOKEN.lastIndex
    this.#at = this.#end - (this.#next?.length ?? 0)
  }

  #unexpected(): Error {
    if (this.#next === undefined) return new Error('the formula ends too early')
    return new Error(`${JSON.stringify(this.#next)} is not expected at character ${this.#at + 1}`)
  }

  #take(...tokens: readonly string[]): string | undefined {
    const next = this.#next
    if (next === undefined || !tokens.includes(next)) return undefined
    this.#read()
    return next
  }

  #need(token: string): void {
    if (this.#take(token) === undefined) throw this.#unexpected()
  }

  #sum(): Formula {
    if (++this.#depth > DEEPEST) throw new Error(`the formula is nested more than ${DEEPEST} deep`)
    const sum = this.#chain(['+', '-'], () => this.#chain(['*', '/'], () => this.#signed()))
    this.#depth--
    return sum
  }

  #chain(operators: readonly string[], operand: () => Formula): Formula {
    let left = operand()
    for (let operator = this.#take(...operators); operator; operator = this.#take(...operators))
      left = binary(operator, left, operand())
    return left
  }

  /** A sign binds less than a power: -2^2 is -4. */
  #signed(): Formula {
    let negative = false
    for (let sign = this.#take('-', '+'); sign; sign = this.#take('-', '+'))
      negative = (sign === '-') !== negative
    const power = this.#power()
    return negative ? (values) => -power(values) : power
  }

  #power(): Formula {
    const base = this.#atom()
    if (this.#take('^') === undefined) return base
    if (++this.#depth > DEEPEST) throw new Error(`the formula is nested more than ${DEEPEST} deep`)
    const exponent = this.#signed()
    this.#depth--
    return binary('^', base, exponent)
  }

  #atom(): Formula {
    if (this.#take('(')) {
      const inner = this.#sum()
      this.#need(')')
      return inner
    }
    const token = this.#next
    if (token === undefined || !/^[\w.]/.test(token)) throw this.#unexpected()
    if (/^[\d.]/.test(token)) {
      this.#read()
      return () => Number(token)
    }
    return Object.hasOwn(FUNCTIONS, token) ? this.#call(token) : this.#named(token)
  }

  #named(name: string): Formula {
    if (!this.#names.includes(name))
      throw new Error(`there is no grader ${JSON.stringify(name)}, only ${this.#names.join(', ')}`)
    this.#read()
    return (values) => values[name] as number
  }

  #call(name: string): Formula {
    const { compute, many } = FUNCTIONS[name] as (typeof FUNCTIONS)[string]
    this.#read()
    this.#need('(')
    const given = [this.#sum()]
    while (many && this.#take(',')) given.push(this.#sum())
    this.#need(')')
    return (values) => compute(...given.map((one) => one(values)))
  }
}

function binary(operator: string, left: Formula, right: Formula): Formula {
  const compute = BINARY[operator] as (a: number, b: number) => number
  return (values) => compute(left(values), right(values))
}
