/**
 * Controls a run from a live page: in the same process, or in another one through that run's own live page, whose
 * address is stored in a file readable only by its owner.
 */
import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import { BusyError, LowrankError } from '../../core/errors.js'
import { PRIVATE, writeFileWhole } from '../../io/atomic.js'
import { readJsonObject } from '../../io/input.js'
import type { PromptOptions } from '../../train/rows/prompting.js'
import type { AskLine, LiveAction, RunStatus } from './protocol.js'

const FILE = '.lowrank.live'
const FILE_LIMIT = 4096
/** Time after which an unresponsive run in another process counts as unreachable. */
const REACH_MS = 1000

/** An answer generated with the current adapter. */
export interface LiveAnswer {
  step: number
  finishReason: 'stop' | 'length'
}

export interface AskControl {
  signal: AbortSignal
  /** Called with each piece of the answer. */
  onText: (text: string) => void
}

/** A run as seen by the server of a live page. */
export interface RunControls {
  status(): Promise<RunStatus>
  /** @throws {BusyError} when the run cannot be reached */
  act(action: LiveAction): Promise<void>
  /** @throws {LowrankError} when no answer can be given */
  ask(prompt: string, control: AskControl): Promise<LiveAnswer>
}

/** The part of a training run used by the controls. */
export interface ControlledRun {
  pause(): void
  resume(): void
  stop(): void
  /** JSON of the tools that all rows of the training data have. */
  readonly sharedTools?: string | undefined
  ask(
    prompt: string,
    options: AskControl & Pick<PromptOptions, 'tools' | 'chatTemplate'>,
  ): Promise<LiveAnswer>
}

/** Controls for a run in this process; `run` returns it, once it exists. */
export function ownControls(run: () => ControlledRun | undefined): RunControls {
  const there = () => {
    const found = run()
    if (found === undefined) throw unreachable()
    return found
  }
  return {
    status: async () => ({ alive: true, reachable: run() !== undefined }),
    act: async (action) => there()[action](),
    ask: async (prompt, control) => {
      const run = there()
      const { sharedTools: tools } = run
      return run.ask(prompt, tools === undefined ? control : { ...control, tools, chatTemplate: true })
    },
  }
}

/** Records the address at which a run is served, readable only by its owner. */
export async function announce(runDir: string, url: string): Promise<void> {
  await writeFileWhole(join(runDir, FILE), `${JSON.stringify({ url })}\n`, PRIVATE)
}

export async function withdraw(runDir: string): Promise<void> {
  await rm(join(runDir, FILE), { force: true })
}

/**
 * Controls for a run in another process.
 * @param atWork where a process is working on it, if any: on this machine or another
 */
export function remoteControls(runDir: string, atWork: () => 'here' | 'elsewhere' | undefined): RunControls {
  const address = async () => {
    const { url } = (await readJsonObject(join(runDir, FILE), FILE_LIMIT).catch(() => undefined)) ?? {}
    return typeof url === 'string' && atWork() === 'here' ? new URL(url) : undefined
  }
  const send = async (path: string, init: RequestInit) => {
    const url = await address()
    if (url === undefined) throw unreachable()
    const { origin, search } = url
    const headers = { 'content-type': 'application/json', origin }
    try {
      return await fetch(`${origin}/${path}${search}`, { ...init, headers })
    } catch (cause) {
      if (init.signal?.aborted) throw init.signal.reason
      throw unreachable({ cause })
    }
  }
  const post = (path: string, body: object, signal?: AbortSignal) =>
    send(path, { method: 'POST', body: JSON.stringify(body), ...(signal ? { signal } : {}) })
  return {
    async status() {
      if (atWork() === undefined) return { alive: false, reachable: false }
      const reached = send('status', { signal: AbortSignal.timeout(REACH_MS) })
      const { reachable } = await reached
        .then(async (response) => (response.ok ? ((await response.json()) as RunStatus) : unreached))
        .catch(() => unreached)
      return { alive: true, reachable }
    },
    async act(action) {
      const response = await post('act', { action })
      if (!response.ok) throw unreachable()
    },
    async ask(prompt, { signal, onText }) {
      const response = await post('ask', { prompt }, signal)
      if (response.status === 429) throw new BusyError((await response.text()).trim())
      if (!response.ok || response.body === null) throw unreachable()
      for await (const line of linesOf(response.body)) {
        if (line.event === 'text') onText(line.text)
        else if (line.event === 'answer') return { step: line.step, finishReason: line.finish_reason }
        else throw new LowrankError(line.code, line.message)
      }
      throw unreachable()
    },
  }
}

const unreached: RunStatus = { alive: true, reachable: false }

function unreachable(options: ErrorOptions = {}): BusyError {
  return new BusyError('the run cannot be reached.', {}, options)
}

async function* linesOf(body: ReadableStream<Uint8Array>): AsyncGenerator<AskLine, void, void> {
  let rest = ''
  for await (const text of body.pipeThrough(new TextDecoderStream())) {
    const lines = (rest + text).split('\n')
    rest = lines.pop() as string
    for (const line of lines) yield JSON.parse(line) as AskLine
  }
}
