/**
 * Runs the built command line as its users do: a process of its own. What it prints with --json goes through the
 * published schema of its verb.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import type { Printed, Verb } from '../../../lib/cli/schemas.js'
import { checkPrinted } from './contract.js'

const main = new URL('../../../dist/esm/cli/main.js', import.meta.url).pathname

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

export function lowrank(args: readonly string[], options: RunOptions = {}): Promise<Ended> {
  const inherited = Object.entries(process.env).filter(
    ([name]) => !/^(VITEST|NODE_|LOWRANK_(?!NATIVE_PATH|THREADS|MEASURE)|NO_COLOR|FORCE_COLOR)/.test(name),
  )
  const plain: [string, string[]] = [process.execPath, [main, ...args]]
  const [command, words] = options.wrap?.(...plain) ?? plain
  const child = spawn(command, words, {
    ...(options.cwd === undefined ? {} : { cwd: options.cwd }),
    env: { ...Object.fromEntries(inherited), ...options.env },
    stdio: ['pipe', 'pipe', 'pipe'],
  })
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
    child.on('close', (code) => {
      try {
        if (args.includes('--json') && !args.includes('--help')) checkPrinted(args[0] as string, ended.stdout)
        done({ ...ended, code })
      } catch (error) {
        failed(error)
      }
    })
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
    child.kill(signal)
  }
}

/** Every line of stdout as JSON; fails when one is not. */
export function jsonLines(stdout: string): unknown[] {
  return stdout
    .split('\n')
    .filter(Boolean)
    .map((line) => JSON.parse(line) as unknown)
}
