/**
 * Lines at the end of a terminal that are drawn anew, while everything else is written above them and stays. The cursor
 * rests below them, where a shell goes on if the process is killed.
 */
import wrapAnsi from 'wrap-ansi'

/** Makes the lines for a terminal of so many columns. */
export type Render = (columns: number) => readonly string[]

export class LiveLines {
  static readonly #all = new WeakMap<NodeJS.WriteStream, LiveLines>()
  readonly #stream: NodeJS.WriteStream
  readonly #resized = () => this.#draw()
  #render: Render | undefined
  /** As they are on the screen. */
  #lines: string[] = []
  #open = ''

  private constructor(stream: NodeJS.WriteStream) {
    this.#stream = stream
  }

  /** The lines of a stream, one object for each stream. */
  static of(stream: NodeJS.WriteStream): LiveLines {
    const lines = LiveLines.#all.get(stream) ?? new LiveLines(stream)
    LiveLines.#all.set(stream, lines)
    return lines
  }

  get shown(): boolean {
    return this.#render !== undefined
  }

  /** Puts lines in the place of those shown so far; nothing where there is no screen. */
  show(render: Render): void {
    if (!isScreen(this.#stream)) return
    if (this.#render === undefined) this.#stream.on('resize', this.#resized)
    this.#render = render
    this.#draw()
  }

  /** A line that stays, shown first among those drawn anew as long as it may grow. */
  get open(): string {
    return this.#open
  }

  set open(text: string) {
    this.#open = text
    if (this.shown) this.#draw()
  }

  /** Takes the lines away, and lets the open one stay. */
  clear(): void {
    if (this.#render === undefined) return
    this.#render = undefined
    this.#stream.off('resize', this.#resized)
    this.#stream.write(this.#erased())
  }

  /** Lets something be written to the same terminal, above the lines; it has to end a line. */
  above(write: () => void): void {
    if (this.#render === undefined) {
      write()
      return
    }
    this.#stream.write(this.#erased())
    write()
    this.#draw()
  }

  /** Escape codes that erase the lines and leave the open one. */
  #erased(): string {
    const open = this.#open === '' ? '' : `${this.#open}\n`
    this.#open = ''
    return `${this.#erase()}${open}`
  }

  /** A terminal that became narrower has made more rows of the lines. */
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
    this.#lines = [...(this.#open === '' ? [] : [this.#open]), ...lines].map((line) => cut(line, columns))
    this.#stream.write(`${erase}${this.#lines.map((line) => `${line}\n`).join('')}`)
  }
}

/** True if lines on the stream can be redrawn. */
export function isScreen(stream: NodeJS.WriteStream): boolean {
  return stream.isTTY && process.env.TERM !== 'dumb'
}

/** Columns of a terminal; a new pseudo-terminal may say that it has none. */
export function columnsOf(stream: NodeJS.WriteStream): number {
  // Node.js asks for the size when the signal of a resize gets its turn, which is late for what is drawn before.
  const { _refreshSize: refresh } = stream as { _refreshSize?: () => void }
  refresh?.call(stream)
  return stream.columns || 80
}

/** Width limit of a table; unlimited for files and programs. */
export function columnsFor(stream: NodeJS.WriteStream): number {
  return isScreen(stream) ? columnsOf(stream) : Number.POSITIVE_INFINITY
}

/** True if the terminal reflows long lines when it becomes narrower; few do not. */
function reflows({ env }: { env: NodeJS.ProcessEnv } = process): boolean {
  return env.XTERM_VERSION === undefined && env.STY === undefined && !/^(rxvt|linux)/.test(env.TERM ?? '')
}

/** As much of a line as fits. */
function cut(line: string, columns: number): string {
  return wrapAnsi(line, columns, { hard: true, wordWrap: false, trim: false }).split('\n', 1)[0] as string
}
