/**
 * Runs the built command line. What it prints with --json goes through the published schema of its verb. In the sweeps
 * each command is a process of its own, as it is for users; in `npm test` the plain ones of a file share one (host.mjs).
 */
import { type ChildProcess, type ChildProcessWithoutNullStreams, fork, spawn } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { afterAll } from 'vitest'
import type { Printed, Verb } from '../../../lib/cli/schemas.js'
import { WHOLE } from '../../sweep.js'
import { checkPrinted } from './contract.js'

const main = fileURLToPath(new URL('../../../dist/esm/cli/main.js', import.meta.url))
const signals = new URL('./signals.mjs', import.meta.url).href
const host = fileURLToPath(new URL('./host.mjs', import.meta.url))

export interface Ended {
  /** null when a signal ended it. */
  code: number | null
  stdout: string
  stderr: string
}

export interface RunOptions {
  cwd?: string
  env?: NodeJS.ProcessEnv
  /** Content of stdin; empty by default. */
  input?: string
  /** Called with each piece of output, to send signals at the right moment. */
  watch?: (child: ChildProcess, soFar: Ended) => void
  /** Command that runs node, e.g. a shell with a limit set. */
  wrap?: (node: string, args: string[]) => [command: string, args: string[]]
}

export async function lowrank(args: readonly string[], options: RunOptions = {}): Promise<Ended> {
  const { cwd, ...apart } = options
  const ended =
    WHOLE || Object.keys(apart).length > 0 ? await runAlone(args, options) : await queueInHost(args, cwd)
  if (args.includes('--json') && !args.includes('--help')) checkPrinted(args[0] as string, ended.stdout)
  return ended
}

/** Arguments of Node.js that let a command receive signals where processes cannot send them. */
const RECEIVES = process.platform === 'win32' ? ['--import', signals] : []

/** Sends a signal to a command that runs alone; Windows has Ctrl-Break in place of SIGTERM. */
export function send(child: ChildProcess, signal: NodeJS.Signals): void {
  if (RECEIVES.length === 0 || signal === 'SIGKILL') child.kill(signal)
  else if (child.connected) child.send({ signal: signal === 'SIGTERM' ? 'SIGBREAK' : signal })
}

/** Text of stderr without lines that only a slow machine prints, which say how long a wait takes. */
export const withoutWaits = (stderr: string): string => stderr.replace(/^\w+\b[^\n]*, \d+ s\n/gm, '')

function environment(): NodeJS.ProcessEnv {
  const inherited = Object.entries(process.env).filter(
    ([name]) => !/^(VITEST|NODE_|LOWRANK_(?!NATIVE_PATH|THREADS|MEASURE)|NO_COLOR|FORCE_COLOR)/.test(name),
  )
  return Object.fromEntries(inherited)
}

function runAlone(args: readonly string[], options: RunOptions): Promise<Ended> {
  const plain: [string, string[]] = [process.execPath, [...RECEIVES, main, ...args]]
  const [command, words] = options.wrap?.(...plain) ?? plain
  const child = spawn(command, words, {
    ...(options.cwd === undefined ? {} : { cwd: options.cwd }),
    env: { ...environment(), ...options.env },
    stdio: ['pipe', 'pipe', 'pipe', ...(RECEIVES.length > 0 ? (['ipc'] as const) : [])],
  }) as ChildProcessWithoutNullStreams
  // A process that does not read leaves the pipe broken.
  child.stdin.on('error', () => undefined).end(options.input)
  const ended: Ended = { code: null, stdout: '', stderr: '' }
  for (const name of ['stdout', 'stderr'] as const) {
    child[name].setEncoding('utf8').on('data', (text: string) => {
      ended[name] += text
      options.watch?.(child, ended)
    })
  }
  return new Promise((done, failed) => {
    child.on('error', failed)
    child.on('close', (code) => done({ ...ended, code }))
  })
}

let shared: ChildProcess | undefined
let last: Promise<unknown> = Promise.resolve()
afterAll(() => void shared?.kill('SIGKILL'))

/** Commands in one process have to wait for each other. */
function queueInHost(args: readonly string[], cwd = process.cwd()): Promise<Ended> {
  const ended = last.then(() => runInHost(args, cwd))
  last = ended.catch(() => undefined)
  return ended
}

/** Ends stdout and stderr of a command in the shared process, before its exit code. */
const END = '\0ended: '

function runInHost(args: readonly string[], cwd: string): Promise<Ended> {
  shared ??= fork(host, { env: environment(), execArgv: [], stdio: ['ignore', 'pipe', 'pipe', 'ipc'] })
  const child = shared
  const ended: Ended = { code: null, stdout: '', stderr: '' }
  return new Promise((done, failed) => {
    const finish = (code: number | null) => {
      for (const from of [child, child.stdout, child.stderr]) from?.removeAllListeners()
      done({ ...ended, code })
    }
    for (const name of ['stdout', 'stderr'] as const)
      child[name]?.setEncoding('utf8').on('data', (text: string) => {
        ended[name] += text
        const parts = [ended.stdout.split(END), ended.stderr.split(END)] as const
        const [[stdout, code], [stderr, same]] = parts
        if (!code?.endsWith('\n') || !same?.endsWith('\n')) return
        Object.assign(ended, { stdout, stderr })
        finish(Number(code))
      })
    child.on('error', failed)
    // The command ended the process itself; the next one starts another.
    child.on('close', (code) => {
      shared = undefined
      finish(code)
    })
    child.send({ args, cwd, end: END })
  })
}

/** Output of a verb with --json, line by line. */
export function printed<Name extends Verb = never>({ stdout }: Ended): Printed<Name>[] {
  return jsonLines(stdout) as Printed<Name>[]
}

/** For `watch`: sends a signal once, as soon as the output says so. */
export function signalWhen(signal: NodeJS.Signals, when: (soFar: Ended) => boolean): RunOptions['watch'] {
  let sent = false
  return (child, soFar) => {
    if (sent || !when(soFar)) return
    sent = true
    send(child, signal)
  }
}

/** Every line of stdout as JSON; fails when one is not. */
export function jsonLines(stdout: string): unknown[] {
  return stdout
    .split('\n')
    .filter(Boolean)
    .map((line) => JSON.parse(line) as unknown)
}
