/**
 * Automata over numbers, which are bytes or code points: built with free moves, then made deterministic. An edge may also
 * call another rule, whose automaton reads a part of the text before this one goes on.
 */
import { ConfigError } from '../core/errors.js'

/** Bounds of one grammar, far above what people write, so that a malicious schema costs little. */
export const MOST_STATES = 1 << 16
const MOST_WORK = 1 << 21

/** Symbols `low` to `high`. */
export type Range = readonly [low: number, high: number]

/** A state of a deterministic automaton. */
export interface State {
  /** Disjoint ranges in ascending order, each with the state after it. */
  edges: [low: number, high: number, to: number][]
  /** Rules that may come here, each with the state after it. */
  calls: [rule: number, to: number][]
  accepts: boolean
}

export function tooComplex(): ConfigError {
  return new ConfigError('it is too complex: its automaton would have too many states')
}

/** States and work that one grammar may still take. */
export class Budget {
  #states = MOST_STATES
  #work = MOST_WORK

  /** @throws {ConfigError} when there is nothing left */
  state(): void {
    if (--this.#states < 0) throw tooComplex()
  }

  work(amount: number): void {
    this.#work -= amount
    if (this.#work < 0) throw tooComplex()
  }
}

export class Nfa {
  readonly edges: [low: number, high: number, to: number][][] = []
  readonly free: number[][] = []
  readonly calls: [rule: number, to: number][][] = []

  constructor(readonly budget: Budget) {}

  state(): number {
    this.budget.work(1)
    this.free.push([])
    this.calls.push([])
    return this.edges.push([]) - 1
  }

  /** Adds a state after symbols of these ranges. */
  after(from: number, ranges: readonly Range[], to = this.state()): number {
    this.budget.work(ranges.length)
    for (const [low, high] of ranges) this.edges[from]?.push([low, high, to])
    return to
  }

  move(from: number, to: number): void {
    this.budget.work(1)
    this.free[from]?.push(to)
  }

  call(from: number, rule: number, to = this.state()): number {
    this.calls[from]?.push([rule, to])
    return to
  }

  /** Adds one of some parts. */
  choice(from: number, parts: readonly ((from: number) => number)[]): number {
    const end = this.state()
    for (const part of parts) {
      const begin = this.state()
      this.move(from, begin)
      this.move(part(begin), end)
    }
    return end
  }

  /** Adds a part that repeats, without end if `most` is infinite. */
  repeat(from: number, part: (from: number) => number, least: number, most: number): number {
    let at = from
    for (let count = 0; count < least; count++) at = part(at)
    if (most === Number.POSITIVE_INFINITY) {
      const loop = this.state()
      this.move(at, loop)
      this.move(part(loop), loop)
      return loop
    }
    const end = this.state()
    for (let count = least; count < most; count++) {
      this.move(at, end)
      at = part(at)
    }
    this.move(at, end)
    return end
  }

  /** The bytes of a text. */
  text(from: number, text: string): number {
    let at = from
    for (const byte of Buffer.from(text)) at = this.after(at, [[byte, byte]])
    return at
  }
}

/** The deterministic automaton of all texts from some states to an end. */
export function determinize(
  nfa: Nfa,
  from: readonly number[],
  end: number,
): { states: State[]; starts: number[] } {
  const known = new Map<string, number>()
  const sets: number[][] = []
  const states: State[] = []
  const stateOf = (seeds: readonly number[]): number => {
    const set = closure(nfa, seeds)
    const key = set.join()
    const found = known.get(key)
    if (found !== undefined) return found
    nfa.budget.state()
    known.set(key, states.length)
    sets.push(set)
    return states.push({ edges: [], calls: [], accepts: set.includes(end) }) - 1
  }
  const starts = from.map((start) => stateOf([start]))
  for (let index = 0; index < states.length; index++) {
    const state = states[index] as State
    const set = sets[index] as number[]
    const calls = new Map<number, number[]>()
    const edges: [number, number, number][] = []
    for (const from of set) {
      for (const [rule, to] of nfa.calls[from] ?? []) append(calls, rule, to)
      for (const edge of nfa.edges[from] ?? []) edges.push(edge)
    }
    nfa.budget.work(edges.length)
    for (const [rule, tos] of calls) state.calls.push([rule, stateOf(tos)])
    for (const { low, high, tos } of disjoint(edges, nfa.budget)) addEdge(state, low, high, stateOf(tos))
    sets[index] = []
  }
  return { states, starts }
}

/** Adds an edge behind the others. */
export function addEdge(state: State, low: number, high: number, to: number): void {
  const last = state.edges.at(-1)
  if (last !== undefined && last[2] === to && last[1] === low - 1) last[1] = high
  else state.edges.push([low, high, to])
}

function closure(nfa: Nfa, seeds: readonly number[]): number[] {
  const seen = new Set(seeds)
  for (const state of seen) for (const next of nfa.free[state] ?? []) seen.add(next)
  nfa.budget.work(seen.size)
  return [...seen].sort((a, b) => a - b)
}

function append(lists: Map<number, number[]>, key: number, value: number): void {
  const list = lists.get(key)
  if (list === undefined) lists.set(key, [value])
  else list.push(value)
}

/** Ranges that overlap, cut where others begin and end. */
function disjoint(
  edges: readonly (readonly [number, number, number])[],
  budget: Budget,
): { low: number; high: number; tos: number[] }[] {
  if (edges.length === 1) return edges.map(([low, high, to]) => ({ low, high, tos: [to] }))
  const begins = new Map<number, number[]>()
  const ends = new Map<number, number[]>()
  for (const [low, high, to] of edges) {
    append(begins, low, to)
    append(ends, high + 1, to)
  }
  const cuts = [...new Set([...begins.keys(), ...ends.keys()])].sort((a, b) => a - b)
  const open = new Map<number, number>()
  const parts: { low: number; high: number; tos: number[] }[] = []
  for (const [index, cut] of cuts.entries()) {
    for (const to of ends.get(cut) ?? []) {
      const count = (open.get(to) ?? 0) - 1
      if (count === 0) open.delete(to)
      else open.set(to, count)
    }
    for (const to of begins.get(cut) ?? []) open.set(to, (open.get(to) ?? 0) + 1)
    budget.work(open.size + 1)
    const next = cuts[index + 1]
    if (open.size > 0 && next !== undefined) parts.push({ low: cut, high: next - 1, tos: [...open.keys()] })
  }
  return parts
}

/** The automaton of a step function, whose states are told apart by their JSON. */
export function explored<T>(
  start: T,
  symbols: string,
  step: (state: T, symbol: string) => T | undefined,
  accepts: (state: T) => boolean,
  budget: Budget,
): State[] {
  const known = new Map<string, number>()
  const values: T[] = []
  const states: State[] = []
  const stateOf = (value: T): number => {
    const key = JSON.stringify(value)
    const found = known.get(key)
    if (found !== undefined) return found
    budget.state()
    known.set(key, states.length)
    values.push(value)
    return states.push({ edges: [], calls: [], accepts: accepts(value) }) - 1
  }
  stateOf(start)
  const ordered = [...symbols].sort()
  for (let index = 0; index < states.length; index++)
    for (const symbol of ordered) {
      budget.work(8)
      const next = step(values[index] as T, symbol)
      const code = symbol.charCodeAt(0)
      if (next !== undefined) addEdge(states[index] as State, code, code, stateOf(next))
    }
  return states
}

/** The automaton of what two automata without calls both read. */
export function both(a: readonly State[], b: readonly State[], budget: Budget): State[] {
  const known = new Map<string, number>()
  const pairs: [number, number][] = []
  const states: State[] = []
  const stateOf = (first: number, second: number): number => {
    const key = `${first},${second}`
    const found = known.get(key)
    if (found !== undefined) return found
    budget.state()
    known.set(key, states.length)
    pairs.push([first, second])
    const accepts = (a[first] as State).accepts && (b[second] as State).accepts
    return states.push({ edges: [], calls: [], accepts }) - 1
  }
  stateOf(0, 0)
  for (let index = 0; index < states.length; index++) {
    const [first, second] = pairs[index] as [number, number]
    const one = (a[first] as State).edges
    const other = (b[second] as State).edges
    for (let i = 0, j = 0; i < one.length && j < other.length; ) {
      budget.work(1)
      const [lowA, highA, toA] = one[i] as [number, number, number]
      const [lowB, highB, toB] = other[j] as [number, number, number]
      const low = Math.max(lowA, lowB)
      const high = Math.min(highA, highB)
      if (low <= high) addEdge(states[index] as State, low, high, stateOf(toA, toB))
      if (highA < highB) i++
      else j++
    }
  }
  return states
}

/** True if no text leads to an accepting state; calls are taken to read something. */
export function isEmpty(states: readonly State[]): boolean {
  const seen = new Set([0])
  for (const index of seen) {
    const { edges, calls, accepts } = states[index] as State
    if (accepts) return false
    for (const [, , to] of edges) seen.add(to)
    for (const [, to] of calls) seen.add(to)
  }
  return true
}
