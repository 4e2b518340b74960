/** Runs the built command line as its users do: a process of its own. */
import { type ChildProcess, spawn } from 'node:child_process'

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
  /** Called with each piece of output, to send signals at the right moment. */
  watch?: (child: ChildProcess, stdout: string) => void
  /** Command that runs node, e.g. a shell with a limit set. */
  wrap?: (node: string, args: string[]) => [command: string, args: string[]]
}

export function lowrank(args: readonly string[], options: RunOptions = {}): Promise<Ended> {
  const inherited = Object.entries(process.env).filter(
    ([name]) => !/^(VITEST|NODE_|LOWRANK_(?!NATIVE_PATH)|NO_COLOR|FORCE_COLOR)/.test(name),
  )
  const plain: [string, string[]] = [process.execPath, [main, ...args]]
  const [command, words] = options.wrap?.(...plain) ?? plain
  const child = spawn(command, words, {
    ...(options.cwd === undefined ? {} : { cwd: options.cwd }),
    env: { ...Object.fromEntries(inherited), ...options.env },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  const ended: Ended = { code: null, stdout: '', stderr: '' }
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    ended.stdout += text
    options.watch?.(child, ended.stdout)
  })
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    ended.stderr += text
  })
  return new Promise((done, failed) => {
    child.on('error', failed)
    child.on('close', (code) => done({ ...ended, code }))
  })
}

/** Every line of stdout as JSON; fails when one is not. */
export function jsonLines(stdout: string): unknown[] {
  return stdout
    .split('\n')
    .filter(Boolean)
    .map((line) => JSON.parse(line) as unknown)
}
