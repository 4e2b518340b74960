/** Deals the tasks of a compare out to ranks of MPI, one at a time to each that is free. Rank 0 works, too. */
import { EventEmitter, once } from 'node:events'
import { hostname } from 'node:os'
import { bootId } from '../io/boot-id.js'
import { canonical } from '../train/checkpoints/run-identity.js'
import type { RunConfig } from '../train/config/config.js'
import type { Processes } from '../train/processes/processes.js'
import { programFacts } from '../train/run/agreement.js'
import {
  type CompareTask,
  LocalRunner,
  type Outcome,
  type Runner,
  runTask,
  type TaskContext,
  taskContext,
} from './cells.js'
import type { Meetings, Talk, Turn } from './meetings.js'
import type { CompareResults } from './results.js'
import { settingsOf } from './settings.js'
import type { Workbench, WorkbenchOptions } from './workbench.js'

/** A task, and what a rank has to know for it. */
interface Dealt {
  task: CompareTask
  about: TaskContext
}

/** Rank 0 tells the tasks that it deals out, by rank, and the others the outcomes of theirs. */
interface Said {
  tasks?: Map<number, Dealt>
  outcome?: Outcome | undefined
}

/** Deals tasks out, on rank 0. */
class Dealer implements Talk<Said> {
  readonly #waiting = new Map<
    number,
    { done: (outcome: Outcome) => void; failed: (error: unknown) => void }
  >()
  #tasks = new Map<number, Dealt>()

  /** Runs tasks on another rank. */
  runner(rank: number): Runner {
    const run = (task: CompareTask, results: CompareResults) => {
      this.#tasks.set(rank, { task, about: taskContext(task, results) })
      return new Promise<Outcome>((done, failed) => this.#waiting.set(rank, { done, failed }))
    }
    return { run, abandon: (error) => this.end(error), close: async () => undefined }
  }

  /** Ends the wait for all outcomes. */
  end(error: unknown): void {
    for (const { failed } of this.#waiting.values()) failed(error)
  }

  say(): Said {
    const tasks = this.#tasks
    this.#tasks = new Map()
    return { tasks }
  }

  hear(turns: readonly Turn<Said>[]): void {
    for (const [rank, { said }] of turns.entries()) {
      if (said.outcome === undefined) continue
      this.#waiting.get(rank)?.done(said.outcome)
      this.#waiting.delete(rank)
    }
  }
}

/** Takes tasks, on another rank. */
class Taker implements Talk<Said> {
  readonly #rank: number
  readonly #dealt = new EventEmitter()
  #outcome: Outcome | undefined

  constructor(rank: number) {
    this.#rank = rank
  }

  /** Runs tasks until rank 0 has no more. */
  async work(workbench: Workbench, signal: AbortSignal): Promise<void> {
    for (;;) {
      const next = once(this.#dealt, 'next', { signal }) as Promise<[Dealt | null]>
      const [dealt] = await next.catch(() => {
        throw signal.reason
      })
      if (dealt === null) return
      this.#outcome = await runTask(workbench, dealt.task, dealt.about)
    }
  }

  say(): Said {
    const outcome = this.#outcome
    this.#outcome = undefined
    return { outcome }
  }

  hear([first]: readonly Turn<Said>[]): void {
    const dealt = first?.said.tasks?.get(this.#rank)
    if (dealt !== undefined) this.#dealt.emit('next', dealt)
    if (first?.state === 'done') this.#dealt.emit('next', null)
  }
}

/** The work of rank 0. */
type Dealing<T> = (
  runner: LocalRunner,
  /** Runners on the other ranks that have memory for the entries. */
  others: (entries: CompareResults['entries']) => Runner[],
) => Promise<T>

/** A workbench that every rank opens. */
interface Opening {
  config: RunConfig
  options: Omit<WorkbenchOptions, 'signal'>
  /** Further options that have to be the same on all ranks. */
  asked: Readonly<Record<string, unknown>>
}

/**
 * Opens the workbench on all ranks, and runs the tasks that rank 0 deals out.
 * @param deal on rank 0; undefined on the others
 * @returns the result of `deal` on rank 0
 * @throws {ConfigError} naming the first fact in which a rank differs from rank 0
 */
export async function dealtOut<T>(
  ranks: Processes,
  meetings: Meetings,
  { config, options, asked }: Opening,
  deal: Dealing<T> | undefined,
): Promise<T | undefined> {
  const { signal } = meetings
  const opening = LocalRunner.open(config, { ...options, signal })
  try {
    const runner = await meetings.during(opening)
    const { workbench } = runner
    await ranks.agree('start of a compare', {
      ...(await inputsOf(workbench)),
      ...texts({ ...settingsOf(config), ...asked }),
    })
    const rooms = await ranks.meet('memory of the ranks', ownRoom())
    if (deal === undefined) {
      const taker = new Taker(ranks.rank)
      await meetings.during(taker.work(workbench, signal), taker)
      return undefined
    }
    const dealer = new Dealer()
    signal.addEventListener('abort', () => dealer.end(signal.reason), { once: true })
    const { peakBytes: base } = workbench.model.memory
    const others = (entries: CompareResults['entries']) =>
      ranksWithRoom(rooms, largestPlan(entries) - base).map((rank) => dealer.runner(rank))
    return await meetings.during(deal(runner, others), dealer)
  } finally {
    await opening.then(
      (runner) => runner.close(),
      () => undefined,
    )
  }
}

/** Facts that decide on the bits of a cell. */
async function inputsOf(workbench: Workbench): Promise<Record<string, string>> {
  const { model, data, binary } = await workbench.about()
  return {
    ...programFacts(workbench.model.base),
    'native addon': binary.hash,
    'base model': model.hash,
    'training data': data.pool?.hash ?? '',
    'test data': data.test.hash,
    'general text': data.general.hash,
    quantization: model.quantization,
    precision: model.precision,
  }
}

function texts(values: Readonly<Record<string, unknown>>): Record<string, string> {
  return Object.fromEntries(Object.entries(values).map(([key, value]) => [key, canonical(value) ?? 'null']))
}

/** Free memory of a rank. Ranks on the same machine share it. */
interface Room {
  machine: string
  available: number
}

function ownRoom(): Room {
  return { machine: bootId() || hostname(), available: process.availableMemory() }
}

function largestPlan(entries: CompareResults['entries']): number {
  return Math.max(0, ...entries.map(({ planned }) => planned.bytes))
}

/**
 * The ranks beside rank 0 that have memory for a training at the same time.
 * @param needed bytes of a training beside the base model, which all ranks have loaded
 */
export function ranksWithRoom(rooms: readonly Room[], needed: number): number[] {
  const users = new Map<string, number>()
  const chosen: number[] = []
  for (const [rank, { machine, available }] of rooms.entries()) {
    const all = (users.get(machine) ?? 0) + 1
    // The memory of rank 0 was checked when it measured the entries.
    if (rank > 0 && all * needed > available) continue
    users.set(machine, all)
    if (rank > 0) chosen.push(rank)
  }
  return chosen
}
