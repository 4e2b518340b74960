/**
 * Lines at the bottom of a terminal that are redrawn, while all other output is written permanently above them.
 * The cursor stays below, where a shell continues if the process is killed.
 */
import wrapAnsi from 'wrap-ansi'
import { wrapped } from './wrap.js'

/** Renders the lines for a terminal of `columns` columns. */
export type Render = (columns: number) => readonly string[]

export class LiveLines {
  static readonly #all = new WeakMap<NodeJS.WriteStream, LiveLines>()
  readonly #stream: NodeJS.WriteStream
  readonly #resized = () => this.#draw()
  #render: Render | undefined
  /** The lines on the screen. */
  #lines: string[] = []
  #open = ''

  private constructor(stream: NodeJS.WriteStream) {
    this.#stream = stream
  }

  /** The live lines of a stream; one object per stream. */
  static of(stream: NodeJS.WriteStream): LiveLines {
    const lines = LiveLines.#all.get(stream) ?? new LiveLines(stream)
    LiveLines.#all.set(stream, lines)
    return lines
  }

  get shown(): boolean {
    return this.#render !== undefined
  }

  /** Replaces the lines shown so far. Does nothing without a terminal. */
  show(render: Render): void {
    if (!isScreen(this.#stream)) return
    if (this.#render === undefined) this.#stream.on('resize', this.#resized)
    this.#render = render
    this.#draw()
  }

  /** A permanent line that may still grow; it is redrawn as the first live line. */
  get open(): string {
    return this.#open
  }

  set open(text: string) {
    this.#open = text
    if (this.shown) this.#draw()
  }

  /** Erases the live lines, and makes the open line permanent. */
  clear(): void {
    if (this.#render === undefined) return
    this.#render = undefined
    this.#stream.off('resize', this.#resized)
    this.#stream.write(this.#erased())
  }

  /** Lets `write` print to the same terminal, above the lines; its output must end with a line break. */
  above(write: () => void): void {
    if (this.#render === undefined) {
      write()
      return
    }
    this.#stream.write(this.#erased())
    write()
    this.#draw()
  }

  /** Escape codes that erase the lines, followed by the open line. */
  #erased(): string {
    const open = this.#openRows(columnsOf(this.#stream)).map((row) => `${row}\n`)
    this.#open = ''
    return `${this.#erase()}${open.join('')}`
  }

  #openRows(columns: number): string[] {
    return this.#open === '' ? [] : wrapped(this.#open, columns).split('\n')
  }

  /** If the terminal has become narrower, the lines may take up more rows. */
  #erase(): string {
    const columns = reflows() ? columnsOf(this.#stream) : Number.POSITIVE_INFINITY
    const rows = this.#lines.reduce((sum, line) => sum + Math.max(1, Math.ceil(line.length / columns)), 0)
    this.#lines = []
    return `\r${rows > 0 ? `\u001b[${rows}A` : ''}\u001b[J`
  }

  #draw(): void {
    const erase = this.#erase()
    const columns = columnsOf(this.#stream)
    const lines = (this.#render as Render)(columns)
    this.#lines = [...this.#openRows(columns), ...lines].map((line) => cut(line, columns))
    this.#stream.write(`${erase}${this.#lines.map((line) => `${line}\n`).join('')}`)
  }
}

/** True if lines on the stream can be redrawn. */
export function isScreen(stream: NodeJS.WriteStream): boolean {
  return stream.isTTY && process.env.TERM !== 'dumb'
}

/** Width of the terminal; a new pseudo-terminal may report zero. */
export function columnsOf(stream: NodeJS.WriteStream): number {
  // Node.js updates the size when it handles the resize signal, which is too late for output before that.
  const { _refreshSize: refresh } = stream as { _refreshSize?: () => void }
  refresh?.call(stream)
  return stream.columns || 80
}

/** Width limit for tables; unlimited for files and pipes. */
export function columnsFor(stream: NodeJS.WriteStream): number {
  return isScreen(stream) ? columnsOf(stream) : Number.POSITIVE_INFINITY
}

/** True if the terminal reflows long lines when it becomes narrower, as most do. */
function reflows({ env }: { env: NodeJS.ProcessEnv } = process): boolean {
  return env.XTERM_VERSION === undefined && env.STY === undefined && !/^(rxvt|linux)/.test(env.TERM ?? '')
}

/** The part of a line that fits. */
function cut(line: string, columns: number): string {
  return wrapAnsi(line, columns, { hard: true, wordWrap: false, trim: false }).split('\n', 1)[0] as string
}
