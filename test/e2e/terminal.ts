/** The command line in a pseudo-terminal, and the screen that a person sees there. */
import { spawn } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import xterm from '@xterm/headless'
import { needs } from '../needs.js'

const main = fileURLToPath(new URL('../../dist/esm/cli/main.js', import.meta.url))
const script = fileURLToPath(new URL('terminal.py', import.meta.url))
/** Start of redrawn lines. */
// biome-ignore lint/suspicious/noControlCharactersInRegex: of a terminal
const FRAME = /(?=\r(?:\x1b\[\d+A)?\x1b\[J)/
// biome-ignore lint/suspicious/noControlCharactersInRegex: of a terminal
const RESIZED = /\x1b_resized (\d+) (\d+)\x1b\\/

export interface TerminalOptions {
  columns: number
  rows?: number
  cwd: string
  env?: NodeJS.ProcessEnv
}

export class Terminal {
  readonly #terminal: xterm.Terminal
  readonly #child
  readonly #waits: { holds: (screen: string) => boolean; done: (screen: string) => void }[] = []
  #drawn: Promise<void> = Promise.resolve()
  #unread = ''
  /** Exit code, when all is drawn. */
  readonly ended: Promise<number | null>

  /** Runs `lowrank` with these arguments. */
  constructor(args: readonly string[], { columns, rows = 12, cwd, env = {} }: TerminalOptions) {
    needs('pseudo-terminals')
    this.#terminal = new xterm.Terminal({ cols: columns, rows, scrollback: 1000, allowProposedApi: true })
    const inherited = Object.entries(process.env).filter(
      ([name]) => !/^(VITEST|NODE_|LOWRANK_(?!NATIVE_PATH|MEASURE)|NO_COLOR|FORCE_COLOR|LC_|LANG)/.test(name),
    )
    const command = [script, String(columns), String(rows), process.execPath, main, ...args]
    this.#child = spawn('python3', command, {
      cwd,
      env: {
        ...Object.fromEntries(inherited),
        TERM: 'xterm-256color',
        LANG: 'C.UTF-8',
        NO_COLOR: '1',
        PYTHONCOERCECLOCALE: '0',
        ...env,
      },
      stdio: ['pipe', 'pipe', 'inherit'],
    })
    this.#child.stdout.setEncoding('utf8').on('data', (text: string) => this.#read(text))
    this.ended = new Promise((done, failed) => {
      this.#child.on('error', failed)
      this.#child.on('close', (code) => this.#drawn.then(() => done(code)))
    })
  }

  /** The screen with what has scrolled away above it, at the first moment at which something is to be seen there. */
  until(holds: (screen: string) => boolean): Promise<string> {
    return new Promise((done, failed) => {
      this.#waits.push({ holds, done })
      this.ended.then(() => failed(new Error(`it ended before that was to be seen:\n${this.screen()}`)))
    })
  }

  /** Rows from the first one on, without the empty ones at the end. */
  screen(): string {
    const { active } = this.#terminal.buffer
    const rows = Array.from(
      { length: active.length },
      (_, y) => active.getLine(y)?.translateToString(true) ?? '',
    )
    while (rows.at(-1) === '') rows.pop()
    return rows.join('\n')
  }

  /** Rows that the terminal broke, since they were longer than it is wide. */
  broken(): string[] {
    const { active } = this.#terminal.buffer
    const rows = Array.from({ length: active.length }, (_, y) => active.getLine(y))
    return rows
      .filter((row, y) => rows[y + 1]?.isWrapped && row)
      .map((row) => row?.translateToString(true) as string)
  }

  type(text: string): void {
    this.#order({ type: text })
  }

  resize(columns: number, rows = this.#terminal.rows): void {
    this.#order({ resize: [columns, rows] })
  }

  /** Prompt of the shell after the command has ended. */
  async prompt(): Promise<string> {
    await this.#write('$ ')
    return this.screen()
  }

  #order(order: object): void {
    this.#child.stdin.write(`${JSON.stringify(order)}\n`)
  }

  #read(text: string): void {
    this.#unread += text
    for (let mark = RESIZED.exec(this.#unread); mark; mark = RESIZED.exec(this.#unread)) {
      const [columns, rows] = [Number(mark[1]), Number(mark[2])]
      const before = this.#unread.slice(0, mark.index)
      this.#unread = this.#unread.slice(mark.index + mark[0].length)
      this.#write(before)
      this.#drawn = this.#drawn.then(() => this.#terminal.resize(columns, rows))
    }
    const partial = this.#unread.lastIndexOf('\u001b_')
    const whole = partial < 0 ? this.#unread : this.#unread.slice(0, partial)
    this.#unread = this.#unread.slice(whole.length)
    this.#write(whole)
  }

  /** Draws piece by piece, so that no state of the screen goes unseen on a busy machine. */
  #write(text: string): Promise<void> {
    for (const piece of text.split(FRAME))
      this.#drawn = this.#drawn
        .then(() => new Promise<void>((done) => this.#terminal.write(piece, done)))
        .then(() => this.#look())
    return this.#drawn
  }

  #look(): void {
    if (this.#waits.length === 0) return
    const screen = this.screen()
    for (const wait of this.#waits.splice(0)) {
      if (wait.holds(screen)) wait.done(screen)
      else this.#waits.push(wait)
    }
  }
}
