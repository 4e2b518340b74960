/**
 * The processes (ranks) that train together. They synchronize at the same points of a run, in the same order,
 * and exchange a value, a request to stop, or a failure. All of them therefore stop at the same step, and none
 * waits for a rank that is gone.
 */
import { hostname } from 'node:os'
import { setTimeout as sleep } from 'node:timers/promises'
import { deserialize, serialize } from 'node:v8'
import {
  AbortedError,
  ConfigError,
  DivergedError,
  InternalError,
  LowrankError,
  RanksError,
} from '../../core/errors.js'
import { fromSystem } from '../../core/system-error.js'
import { bootId } from '../../io/boot-id.js'
import { addon, type Device } from '../../native/addon.js'
import { cardOf } from '../../native/device.js'
import { CLASSES, translated, translatedAsync } from '../../native/errors.js'
import { closedWay, launchOf } from '../../native/launcher.js'
import type { RunOptions } from '../../options/options.js'
import { taskRules } from '../../tasks/index.js'
import { shareOfCores } from './cores.js'

/** How long a library may take to close, which usually takes it milliseconds. */
const CLOSE_MS = 10_000

interface Failure {
  code: string
  message: string
  details: Record<string, unknown>
}

interface Message<T> {
  /** Synchronization point of the run. */
  at: string
  value?: T
  failed?: Failure
  /** True if this rank was asked to stop. */
  stop: boolean
}

/** The processes that train together; possibly just this one. */
export class Processes {
  readonly rank: number
  readonly size: number
  /** The MPI library and its version; empty for a single process. */
  readonly library: string
  /** Number of this rank among those on its machine. */
  place = 0
  /** How GPUs sum gradients over ranks, as a sentence; undefined before that, and on the CPU. */
  sums: string | undefined
  #machines: readonly string[] = []
  /** The device that `connect` was last called for. */
  #device: Device | undefined
  /** True if GPUs sum gradients, where a rank that waits does not hear that another has failed. */
  #isConnected = false
  #hosts: readonly string[]
  #asked: AbortSignal | undefined
  #stop = new AbortController()
  /** The rank that reports the error that ended all ranks; undefined before that. */
  #teller: number | undefined
  /** True once ranks sum gradients within a pass, where one that waits does not hear that another has failed. */
  sumsWithinPasses = false
  /** True once ranks compute on their own, and meet without waiting for what their engines do. */
  meetsAside = false
  /** True once this rank has failed where the others wait and do not hear of it. */
  #isUnheard = false
  #abandoned = false

  private constructor({ rank, size, library }: { rank: number; size: number; library: string }) {
    this.rank = rank
    this.size = size
    this.library = library
    this.#hosts = [hostname()]
  }

  static alone(): Processes {
    return new Processes({ rank: 0, size: 1, library: '' })
  }

  /**
   * Joins the ranks started by an MPI launcher, and limits this rank to its share of the machine's cores unless
   * LOWRANK_THREADS is set. Without a launcher, the process stays alone.
   * @throws {RanksError} when no MPI library supports the launcher
   */
  static async join(): Promise<Processes> {
    const launch = launchOf(process.env)
    if (launch === undefined) return Processes.alone()
    const closed = launch.launcher === 'pmi' ? closedWay(process.env) : undefined
    if (closed !== undefined) throw new RanksError(closed, { variable: 'PMI_FD' })
    // UCX, a transport of many MPI builds, patches C library functions such as mmap while threads of Node.js
    // run them.
    process.env.UCX_MEM_EVENTS ??= 'n'
    const patience = 1000 * secondsOf(process.env.LOWRANK_MPI_TIMEOUT)
    const ranks = new Processes(
      await translatedAsync(() => addon().joinRanks({ ...launch, patience }).promise),
    )
    if (ranks.size === 1) return ranks
    const own = {
      ...{ host: hostname(), boot: bootId(), cores: translated(() => addon().allowedCores()) },
      usable: translated(() => addon().cpu().cores),
    }
    const machines = await ranks.meet('join', own)
    ranks.#hosts = machines.map(({ host }) => host)
    ranks.#machines = machines.map(({ host, boot }) => boot || host)
    const beside = ranks.#machines.filter(
      (machine, rank) => rank < ranks.rank && machine === ranks.#machines[ranks.rank],
    )
    ranks.place = beside.length
    if (!process.env.LOWRANK_THREADS) addon().configure({ threads: shareOfCores(machines, ranks.rank) })
    return ranks
  }

  get isAlone(): boolean {
    return this.size === 1
  }

  /** True for the rank that writes files and reports progress. */
  get isFirst(): boolean {
    return this.rank === 0
  }

  name(rank = this.rank): string {
    return `rank ${rank} on ${this.#hosts[rank] ?? 'an unknown host'}`
  }

  /**
   * Waits for all ranks to reach this point, and returns their values in rank order.
   * @throws the error of the first rank that failed meanwhile
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

  /** Runs work on each rank and exchanges the results. If the work fails on a rank, its error ends all ranks. */
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

  /** @throws {ConfigError} naming the first fact in which a rank differs from rank 0 */
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

  /**
   * Connects the GPUs of the ranks by NCCL, so that gradients are summed there, if each rank has the library and a GPU
   * of its own; else they go through the host.
   * @param device of this rank; all ranks compute on the same kind
   */
  async connect(device: Device): Promise<void> {
    const card = cardOf(device)
    if (this.isAlone || card === undefined || device === this.#device) return
    this.#device = device
    const { version, reason } = translated(() => addon().nccl())
    const all = await this.meet('NCCL', { version, reason, bus: card.bus })
    const obstacle = this.#obstacle(all)
    this.#isConnected = obstacle === undefined
    this.sums = obstacle
      ? `Gradients are added up through the host, not by NCCL: ${obstacle}.`
      : `Gradients are added up on the GPUs by NCCL ${version}.`
    if (obstacle !== undefined) return
    const id = await this.firsts('id of the GPUs', async () =>
      this.isFirst ? translated(() => addon().ncclId()) : new Uint8Array(),
    )
    await this.summing(() => translatedAsync(() => addon().connectGpus(device, id).promise))
    await this.meet('connection of the GPUs', null)
  }

  /** Why GPUs cannot be connected, by the first rank that it is about; undefined if they can. */
  #obstacle(all: readonly { version: string; reason: string; bus: string }[]): string | undefined {
    for (const [rank, { version, reason, bus }] of all.entries()) {
      if (reason !== '') return `${this.name(rank)} has none (${reason})`
      if (version !== all[0]?.version)
        return `${this.name(rank)} has version ${version}, and ${this.name(0)} ${all[0]?.version}`
      const other = all.findIndex((each, i) => each.bus === bus && this.#machines[i] === this.#machines[rank])
      if (other < rank) return `${this.name(other)} and ${this.name(rank)} share a GPU`
    }
    return undefined
  }

  /** Sums gradients. If that fails on one rank while GPUs are connected, the others cannot hear of it. */
  async summing<T>(work: () => Promise<T>): Promise<T> {
    try {
      return await work()
    } catch (error) {
      this.#isUnheard = this.#isConnected
      throw error
    }
  }

  /** A signal that aborts on all ranks at the same synchronization point, once any rank is asked to stop. */
  joint(asked: AbortSignal | undefined): AbortSignal | undefined {
    if (this.isAlone) return asked
    this.#asked = asked
    this.#stop = new AbortController()
    return this.#stop.signal
  }

  /** True if `error` is the reason of a stop requested on another rank. */
  isStop(error: unknown): boolean {
    return error instanceof StoppedRank
  }

  /** True if the ranks can no longer synchronize, because one was lost or failed where others wait for it. */
  get isBroken(): boolean {
    return !this.isAlone && (this.#abandoned || addon().lostRank() >= 0)
  }

  /**
   * Reports an error that ends this rank to the others, which ends them as well. Where they cannot hear of it, this
   * rank has to tell it and to end the others.
   * @returns the error of the first rank that failed
   */
  async failed(error: unknown): Promise<unknown> {
    if (this.isAlone || this.#teller !== undefined) return error
    if (this.isBroken) {
      this.#teller = addon().lostRank() === 0 ? 1 : 0
      return error instanceof RanksError && error.details.rank === undefined ? this.#lost(error) : error
    }
    // All ranks find out together that a sum diverged, or that they differ.
    const isUnheard = this.sumsWithinPasses || this.#isUnheard
    if (isUnheard && !(error instanceof DivergedError || error instanceof RanksError)) {
      this.#abandoned = true
      this.#teller = this.rank
      if (error instanceof Error) error.message = `${this.name()}: ${error.message}`
      return error
    }
    try {
      await this.#say({ at: 'failure', failed: failureOf(error) }, error)
    } catch (first) {
      return first
    }
    return error
  }

  /** True if this rank reports the error that ended all ranks. */
  get tells(): boolean {
    return this.isAlone || this.#teller === undefined || this.#teller === this.rank
  }

  /**
   * Disconnects from the other ranks; all ranks must call it. False if the library does not close, as MPICH 4.0 may not
   * over TCP: this process can then end only by `endRanks`.
   */
  async leave(): Promise<boolean> {
    if (this.library === '') return true
    await translatedAsync(() => addon().leaveRanks().promise)
    const closed = translatedAsync(() => addon().closeRanks().promise).then(() => true)
    return Promise.race([closed, sleep(CLOSE_MS, false, { ref: false })])
  }

  #lost(cause: Error): RanksError {
    const rank = addon().lostRank()
    const seconds = secondsOf(process.env.LOWRANK_MPI_TIMEOUT)
    return new RanksError(
      `${this.name(rank)} has not answered for ${seconds} s: its process was stopped, or its machine cannot be reached. Start again, with --resume for a run or a compare. LOWRANK_MPI_TIMEOUT sets the seconds.`,
      { rank },
      { cause },
    )
  }

  /** @param own this rank's error, if it has failed */
  async #say<T>(message: Omit<Message<T>, 'stop'>, own?: unknown): Promise<Message<T>[]> {
    const stop = this.#asked?.aborted ?? false
    const bytes = serialize({ ...message, stop } satisfies Message<T>)
    const meeting = async () =>
      this.meetsAside ? addon().meetRanksAside(bytes) : addon().meetRanks(bytes).promise
    const all = await translatedAsync(meeting).catch((cause: Error) => {
      throw this.isBroken ? this.#lost(cause) : cause
    })
    const said = all.map((each) => deserialize(each) as Message<T>)
    const first = said.findIndex(({ failed }) => failed !== undefined)
    if (first >= 0) {
      const failure = said[first]?.failed as Failure
      // Rank 0 reports, after its own output. A defect is reported where it happened, with its stack.
      this.#teller = failure.code === 'INTERNAL' ? first : 0
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

/** Seconds that a rank may stay silent before it counts as lost. */
function secondsOf(text: string | undefined): number {
  if (text === undefined || text === '') return 60
  const seconds = Number(text)
  if (Number.isInteger(seconds) && seconds >= 1 && seconds <= 86_400) return seconds
  throw new ConfigError(
    `LOWRANK_MPI_TIMEOUT is ${JSON.stringify(text)}, expected a number of seconds from 1 to 86400.`,
    { value: text },
  )
}

/** Longest values shown in a message about a difference. Hashes are longer, and mean nothing to a reader. */
const SHOWN = 40

/** Abort reason when another rank was asked to stop. */
class StoppedRank extends AbortedError {}

function failureOf(given: unknown): Failure {
  const error = fromSystem(given)
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

/**
 * @param begun number of ranks that the run started with
 * @throws {ConfigError} for a run that cannot go on with another number of ranks
 */
export function checkRanks(
  { optimizerInBackward, task }: Pick<RunOptions, 'optimizerInBackward' | 'task'>,
  begun: number,
  { size }: Pick<Processes, 'size'>,
): void {
  if (!taskRules(task).runs.onRanks && size > 1)
    throw new ConfigError(
      `task ${task} is trained by one process, but there are ${size} ranks; start it without mpirun.`,
      { task, ranks: size },
    )
  if (!optimizerInBackward || begun === size) return
  throw new ConfigError(
    `optimizer_in_backward is true and the run was started with ${begun} ${begun === 1 ? 'process' : 'ranks'}, so a step is one micro-batch on each. Resume it with as many, not ${size}, or set optimizer_in_backward to false.`,
    { started: begun, ranks: size },
  )
}

let present: Processes | undefined

/** The ranks that this process has joined; otherwise the process alone. */
export function presentRanks(): Processes {
  present ??= Processes.alone()
  return present
}

/** Joins the ranks started by a launcher, for every later run of this process. */
export async function joinRanks(): Promise<Processes> {
  present = await Processes.join()
  return present
}
