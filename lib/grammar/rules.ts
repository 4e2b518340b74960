/**
 * The rules of a grammar, each an automaton, and the tables that the addon runs. Automata are built one after the other,
 * however deep their schemas are nested.
 */
import type { GrammarTables } from '../native/addon.js'
import { Budget, determinize, MOST_STATES, Nfa, type State, tooComplex } from './automaton.js'
import { SchemaError } from './schema-error.js'

export class Rules {
  readonly budget = new Budget()
  readonly #starts: number[] = []
  readonly #paths: string[] = []
  readonly #states: State[] = []
  readonly #pending: (() => void)[] = []
  readonly #last: (() => void)[] = []

  /** Adds a rule, which is built later. @returns its number */
  add(path: string, build: (nfa: Nfa, from: number) => number): number {
    const rule = this.reserve(path)
    this.later(() => {
      const nfa = new Nfa(this.budget)
      const start = nfa.state()
      this.place(nfa, [{ rule, start }], build(nfa, start))
    })
    return rule
  }

  /** The number of a rule that `place` gets its states. */
  reserve(path: string): number {
    this.budget.work(16)
    this.#paths.push(path)
    return this.#starts.push(-1) - 1
  }

  later(task: () => void): void {
    this.#pending.push(task)
  }

  /** A task for when no other rules are to be built. */
  last(task: () => void): void {
    this.#last.push(task)
  }

  /** Gives rules the states of an automaton that reads from their starts to its end. */
  place(nfa: Nfa, starts: readonly { rule: number; start: number }[], end: number): void {
    const found = determinize(
      nfa,
      starts.map(({ start }) => start),
      end,
    )
    const shift = this.#append(found.states)
    for (const [index, { rule }] of starts.entries())
      this.#starts[rule] = (found.starts[index] as number) + shift
  }

  /** Gives a rule states of which the first is its start. */
  placeStates(rule: number, states: readonly State[]): void {
    this.#starts[rule] = this.#append(states)
  }

  #append(states: readonly State[]): number {
    const shift = this.#states.length
    for (const { edges, calls, accepts } of states)
      this.#states.push({
        edges: edges.map(([low, high, to]) => [low, high, to + shift]),
        calls: calls.map(([rule, to]) => [rule, to + shift]),
        accepts,
      })
    return shift
  }

  tables(root: number): GrammarTables {
    for (let task = this.#next(); task !== undefined; task = this.#next()) task()
    this.#refuseCircles()
    const useful = this.#useful()
    const start = this.#starts[root] as number
    if (!useful[start]) throw new SchemaError('#', 'no value satisfies it')
    return packed(start, this.#states, this.#starts, useful)
  }

  #next(): (() => void) | undefined {
    return this.#pending.pop() ?? this.#last.pop()
  }

  /** A rule that begins with itself would be entered without end. */
  #refuseCircles(): void {
    const done = new Set<number>()
    for (const [first] of this.#starts.entries()) {
      const path: { rule: number; calls: number[] }[] = []
      const open = new Set<number>()
      const enter = (rule: number) => {
        if (open.has(rule))
          throw new SchemaError(this.#paths[rule] as string, 'refers to itself without anything in between')
        if (done.has(rule)) return
        open.add(rule)
        const { calls } = this.#states[this.#starts[rule] as number] as State
        path.push({ rule, calls: calls.map(([called]) => called) })
      }
      enter(first)
      while (path.length > 0) {
        const { rule, calls } = path.at(-1) as (typeof path)[number]
        const next = calls.pop()
        if (next !== undefined) enter(next)
        else {
          path.pop()
          open.delete(rule)
          done.add(rule)
        }
      }
    }
  }

  /** States from which an end can be reached, so that no answer runs into one without. */
  #useful(): boolean[] {
    const states = this.#states
    const useful = states.map(({ accepts }) => accepts)
    const before: number[][] = states.map(() => [])
    for (const [from, { edges, calls }] of states.entries()) {
      for (const [, , to] of edges) before[to]?.push(from)
      for (const [rule, to] of calls) {
        before[to]?.push(from)
        before[this.#starts[rule] as number]?.push(from)
      }
    }
    const next = [...useful.keys()].filter((index) => useful[index])
    for (let index = next.pop(); index !== undefined; index = next.pop())
      for (const from of before[index] as number[]) {
        if (useful[from]) continue
        const { edges, calls } = states[from] as State
        const leads =
          edges.some(([, , to]) => useful[to]) ||
          calls.some(([rule, to]) => useful[to] && useful[this.#starts[rule] as number])
        if (!leads) continue
        useful[from] = true
        next.push(from)
      }
    return useful
  }
}

function packed(
  start: number,
  states: readonly State[],
  starts: readonly number[],
  useful: readonly boolean[],
): GrammarTables {
  if (states.length > MOST_STATES) throw tooComplex()
  const edges: [number, number, number][] = []
  const calls: [number, number][] = []
  const edgeBegin = [0]
  const callBegin = [0]
  for (const state of states) {
    for (const edge of state.edges) if (useful[edge[2]]) edges.push(edge)
    for (const [rule, to] of state.calls) {
      const begin = starts[rule] as number
      if (useful[begin] && useful[to]) calls.push([begin, to])
    }
    edgeBegin.push(edges.length)
    callBegin.push(calls.length)
  }
  return {
    start,
    edgeBegin: Int32Array.from(edgeBegin),
    edgeLow: Int32Array.from(edges, ([low]) => low),
    edgeHigh: Int32Array.from(edges, ([, high]) => high),
    edgeTo: Int32Array.from(edges, ([, , to]) => to),
    callBegin: Int32Array.from(callBegin),
    callStart: Int32Array.from(calls, ([begin]) => begin),
    callTo: Int32Array.from(calls, ([, to]) => to),
    accepts: Int32Array.from(states, ({ accepts }) => Number(accepts)),
  }
}
