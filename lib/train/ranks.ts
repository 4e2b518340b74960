/**
 * The processes that train together, a rank each. They meet at the same places of a run, in the same order, and tell each
 * other a value, that they were asked to stop, or that they failed: so all of them stop at the same step, and none waits for
 * one that is gone.
 */
import { hostname } from 'node:os'
import { deserialize, serialize } from 'node:v8'
import {
  AbortedError,
  ConfigError,
  InternalError,
  LowrankError,
  RanksError,
  UnsupportedError,
} from '../core/errors.js'
import { bootId } from '../io/boot-id.js'
import { addon } from '../native/addon.js'
import { CLASSES, translated, translatedAsync } from '../native/errors.js'
import { closedWay, launchOf } from '../native/launcher.js'
import type { RunOptions } from '../options/options.js'

interface Failure {
  code: string
  message: string
  details: Record<string, unknown>
}

interface Message<T> {
  /** Place of the run. */
  at: string
  value?: T
  failed?: Failure
  /** True if this rank was asked to stop. */
  stop: boolean
}

/** The processes that train together; of a process alone, that one. */
export class Ranks {
  readonly rank: number
  readonly size: number
  /** The library that connects them, with its version; empty for a process alone. */
  readonly library: string
  #hosts: readonly string[]
  #asked: AbortSignal | undefined
  #stop = new AbortController()
  /** The rank that prints the error that has ended all ranks; undefined before that. */
  #teller: number | undefined

  private constructor({ rank, size, library }: { rank: number; size: number; library: string }) {
    this.rank = rank
    this.size = size
    this.library = library
    this.#hosts = [hostname()]
  }

  static alone(): Ranks {
    return new Ranks({ rank: 0, size: 1, library: '' })
  }

  /**
   * Joins the ranks that a launcher of MPI has started, and takes this rank's share of the cores of its machine, unless
   * LOWRANK_THREADS says how many. Without a launcher the process stays alone.
   * @throws {RanksError} where no library of MPI understands the launcher
   */
  static async join(): Promise<Ranks> {
    const launch = launchOf(process.env)
    if (launch === undefined) return Ranks.alone()
    const closed = launch.launcher === 'pmi' ? closedWay(process.env) : undefined
    if (closed !== undefined) throw new RanksError(closed, { variable: 'PMI_FD' })
    // UCX, a transport of many MPI builds, rewrites functions of the C library, such as mmap, while threads of Node.js run them.
    process.env.UCX_MEM_EVENTS ??= 'n'
    const patience = 1000 * secondsOf(process.env.LOWRANK_MPI_TIMEOUT)
    const ranks = new Ranks(await translatedAsync(() => addon().joinRanks({ ...launch, patience }).promise))
    if (ranks.size === 1) return ranks
    const own = {
      ...{ host: hostname(), boot: bootId(), cores: translated(() => addon().allowedCores()) },
      usable: translated(() => addon().cpu().cores),
    }
    const machines = await ranks.meet('join', own)
    ranks.#hosts = machines.map(({ host }) => host)
    if (!process.env.LOWRANK_THREADS) addon().configure({ threads: shareOfCores(machines, ranks.rank) })
    return ranks
  }

  get isAlone(): boolean {
    return this.size === 1
  }

  /** True for the rank that writes files, and tells how a run goes. */
  get isFirst(): boolean {
    return this.rank === 0
  }

  name(rank = this.rank): string {
    return `rank ${rank} on ${this.#hosts[rank] ?? 'an unknown host'}`
  }

  /**
   * The values of all ranks, in their order, when each has come to this place.
   * @throws the error of the first rank that has failed meanwhile
   */
  async meet<T>(at: string, value: T): Promise<T[]> {
    if (this.isAlone) return [value]
    const said = await this.#say<T>({ at, value })
    const elsewhere = said.findIndex((message) => message.at !== at)
    if (elsewhere >= 0)
      throw new InternalError(
        `${this.name()} is at ${at}, and ${this.name(elsewhere)} at ${said[elsewhere]?.at}`,
      )
    return said.map((message) => message.value as T)
  }

  /** Meets with what the work of this rank gives. A rank whose work fails ends all with its error. */
  async together<T>(at: string, work: () => Promise<T>): Promise<T[]> {
    let value: T
    try {
      value = await work()
    } catch (error) {
      throw await this.failed(error)
    }
    return this.meet(at, value)
  }

  /** The value of the first rank. */
  async firsts<T>(at: string, work: () => Promise<T>): Promise<T> {
    return (await this.together(at, work))[0] as T
  }

  /** @throws {ConfigError} naming the first fact in which a rank differs from the first one */
  async agree(at: string, facts: Readonly<Record<string, string>>): Promise<void> {
    const all = await this.meet(at, facts)
    for (const [rank, own] of all.entries())
      for (const [fact, value] of Object.entries(own)) {
        const first = all[0]?.[fact]
        if (value === first) continue
        const shown = [first, value].every((text) => text !== undefined && text.length <= SHOWN)
        const values = shown ? `: ${value}, not ${first}` : ''
        throw new ConfigError(
          `${this.name(rank)} has another ${fact} than ${this.name(0)}${values}. All ranks need the same files, options and version of lowrank, and processors with the same instructions (LOWRANK_ISA sets them).`,
          { fact, rank, value, expected: first },
        )
      }
  }

  /** A signal that aborts where the ranks meet, on all at the same place, when one of them was asked to stop. */
  joint(asked: AbortSignal | undefined): AbortSignal | undefined {
    if (this.isAlone) return asked
    this.#asked = asked
    this.#stop = new AbortController()
    return this.#stop.signal
  }

  /** True for the reason of a stop that another rank was asked for. */
  isStop(error: unknown): boolean {
    return error instanceof StoppedRank
  }

  /** True if a rank was lost, so that nobody can meet any more. */
  get isBroken(): boolean {
    return !this.isAlone && addon().lostRank() >= 0
  }

  /**
   * Tells the others of an error that ends this rank, and so all of them.
   * @returns the error of the first rank that has failed
   */
  async failed(error: unknown): Promise<unknown> {
    if (this.isAlone || this.#teller !== undefined) return error
    if (this.isBroken) {
      this.#teller = addon().lostRank() === 0 ? 1 : 0
      return error instanceof RanksError && error.details.rank === undefined ? this.#lost(error) : error
    }
    try {
      await this.#say({ at: 'failure', failed: failureOf(error) }, error)
    } catch (first) {
      return first
    }
    return error
  }

  /** True if this rank is the one that tells of the error which has ended all. */
  get tells(): boolean {
    return this.isAlone || this.#teller === undefined || this.#teller === this.rank
  }

  /** Leaves the others, when all do. */
  async leave(): Promise<void> {
    if (this.library !== '') await translatedAsync(() => addon().leaveRanks().promise)
  }

  #lost(cause: Error): RanksError {
    const rank = addon().lostRank()
    const seconds = secondsOf(process.env.LOWRANK_MPI_TIMEOUT)
    return new RanksError(
      `${this.name(rank)} has not answered for ${seconds} s: its process was stopped, or its machine cannot be reached. Resume from the newest checkpoint. LOWRANK_MPI_TIMEOUT sets the seconds.`,
      { rank },
      { cause },
    )
  }

  /** @param own the error of this rank, if it has failed */
  async #say<T>(message: Omit<Message<T>, 'stop'>, own?: unknown): Promise<Message<T>[]> {
    const stop = this.#asked?.aborted ?? false
    const bytes = serialize({ ...message, stop } satisfies Message<T>)
    const all = await translatedAsync(() => addon().meetRanks(bytes).promise).catch((cause: Error) => {
      throw this.isBroken ? this.#lost(cause) : cause
    })
    const said = all.map((each) => deserialize(each) as Message<T>)
    const first = said.findIndex(({ failed }) => failed !== undefined)
    if (first >= 0) {
      this.#teller = first
      const failure = said[first]?.failed as Failure
      const isOf = (each: Message<T>) => each.failed?.message === failure.message
      const words = said.every(isOf) ? failure.message : `${this.name(first)}: ${failure.message}`
      if (first === this.rank && own instanceof Error) {
        own.message = words
        throw own
      }
      throw errorOf({ ...failure, message: words })
    }
    const asking = said.findIndex((each) => each.stop)
    if (asking >= 0 && !this.#stop.signal.aborted)
      this.#stop.abort(
        stop ? this.#asked?.reason : new StoppedRank(`${this.name(asking)} was asked to stop.`),
      )
    return said
  }
}

/** Seconds that a rank may be silent. */
function secondsOf(text: string | undefined): number {
  if (text === undefined || text === '') return 60
  const seconds = Number(text)
  if (Number.isInteger(seconds) && seconds >= 1 && seconds <= 86_400) return seconds
  throw new ConfigError(
    `LOWRANK_MPI_TIMEOUT is ${JSON.stringify(text)}, expected a number of seconds from 1 to 86400.`,
    { value: text },
  )
}

/** Longest values that a message about a difference shows; hashes tell nobody anything. */
const SHOWN = 40

/** Reason of a stop that another rank was asked for. */
class StoppedRank extends AbortedError {}

function failureOf(error: unknown): Failure {
  if (error instanceof LowrankError) {
    const { code, message, details } = error
    return { code, message, details: JSON.parse(JSON.stringify(details)) as Record<string, unknown> }
  }
  const message = error instanceof Error ? `${error.name}: ${error.message}` : String(error)
  return { code: 'INTERNAL', message, details: {} }
}

function errorOf({ code, message, details }: Failure): LowrankError {
  if (!Object.hasOwn(CLASSES, code)) return new LowrankError(code, message, details)
  return new CLASSES[code as keyof typeof CLASSES](message, details)
}

/** The cores that a rank may run on, and those that it can use of them at a time. */
export interface Machine {
  host: string
  /** The system since it was started, which ranks on one machine share; empty where it is not known. */
  boot: string
  cores: readonly number[]
  usable: number
}

/** Threads for a rank: its part of each core that others may use as well, and at least one. */
export function shareOfCores(machines: readonly Machine[], rank: number): number {
  const own = machines[rank] as Machine
  const beside = machines.filter(({ host, boot }) => (boot === '' ? host === own.host : boot === own.boot))
  const users = (core: number) => beside.filter(({ cores }) => cores.includes(core)).length
  const part = own.cores.reduce((sum, core) => sum + 1 / users(core), 0)
  // A quota is of all processes that have it.
  const quota = own.usable < own.cores.length ? own.usable / beside.length : part
  return Math.max(1, Math.floor(Math.min(part, quota) + 1e-6))
}

/** @throws {UnsupportedError} for an option that works in one process only */
export function checkRanks({ optimizerInBackward }: Pick<RunOptions, 'optimizerInBackward'>): void {
  if (!optimizerInBackward) return
  const what = 'optimizer_in_backward'
  throw new UnsupportedError(
    `${what} runs in one process only: gradients are used up before the ranks can add them up. Start it without mpirun.`,
    { what },
  )
}

let present: Ranks | undefined

/** The ranks that this process has joined; else itself alone. */
export function presentRanks(): Ranks {
  present ??= Ranks.alone()
  return present
}

/** Joins the ranks that a launcher has started, from now on for every run of this process. */
export async function joinRanks(): Promise<Ranks> {
  present = await Ranks.join()
  return present
}
