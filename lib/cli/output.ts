/**
 * Output of a verb: text on stdout or, with --json, only JSON. Notes, warnings and progress always go to
 * stderr, so that stdout can be piped. On a terminal, lines are wrapped between words.
 */
import { fstatSync } from 'node:fs'
import { Writable } from 'node:stream'
import { styleText } from 'node:util'
import { columnsOf, LiveLines } from './live-lines.js'
import type { ErrorLine, Printed, Verb } from './schemas.js'
import { wrapped } from './wrap.js'

type Style = Parameters<typeof styleText>[0]

export class Output {
  constructor(
    /** True to print JSON on stdout. */
    readonly json: boolean,
    readonly stdout: NodeJS.WriteStream = process.stdout,
    readonly stderr: NodeJS.WriteStream = process.stderr,
  ) {}

  /** An output that discards everything. */
  static silent(): Output {
    const nowhere = new Writable({
      write: (_chunk, _encoding, done) => done(),
    }) as unknown as NodeJS.WriteStream
    return new Output(false, nowhere, nowhere)
  }

  /**
   * Prints the answer of a verb, as data or as text. The type argument names the verb, so that its schema
   * checks the data.
   */
  answer<Name extends Verb = never>(data: NoInfer<Printed<Name>>, text: () => string): void {
    if (this.json) this.#line(data)
    else this.text(text())
  }

  /** Prints text on stdout; nothing with --json. */
  text(text: string): void {
    if (!this.json) this.#print(forTerminal(this.stdout, text))
  }

  /** Prints one JSON line of an event stream; nothing without --json. */
  event<Name extends Verb = never>(data: NoInfer<Printed<Name>>): void {
    this.#line(data)
  }

  /** Prints the last line of stdout when a verb fails; nothing without --json. */
  error(line: ErrorLine): void {
    this.#line(line)
  }

  #line(data: unknown): void {
    if (this.json) this.#print(JSON.stringify(data))
  }

  #print(text: string): void {
    const write = () => void this.stdout.write(`${text}\n`)
    if (this.stdout.isTTY) this.live.above(write)
    else write()
  }

  /** The redrawn lines of stderr. */
  get live(): LiveLines {
    return LiveLines.of(this.stderr)
  }

  /** Prints a message on stderr. */
  note(text: string): void {
    this.live.above(() => void this.stderr.write(`${forTerminal(this.stderr, text)}\n`))
  }

  /** True if stdout is a terminal with colors. */
  get colors(): boolean {
    return hasColors(this.stdout)
  }

  /** Styles text for stdout, if it supports colors. */
  styled(style: Style, text: string): string {
    return styledFor(this.stdout, style, text)
  }
}

/** Wraps lines for a terminal; other streams get them unchanged. */
function forTerminal(stream: NodeJS.WriteStream, text: string): string {
  return stream.isTTY ? wrapped(text, columnsOf(stream)) : text
}

/**
 * Styles text on terminals only, unless FORCE_COLOR is set; `hasColors` of Node.js also respects NO_COLOR and
 * TERM=dumb.
 */
export function styledFor(stream: NodeJS.WriteStream, style: Style, text: string): string {
  return hasColors(stream) ? styleText(style, text, { validateStream: false }) : text
}

function hasColors(stream: NodeJS.WriteStream): boolean {
  const { FORCE_COLOR: force } = process.env
  return force === undefined ? stream.isTTY && stream.hasColors() : force !== '0' && force !== 'false'
}

/** True if two streams are the same file or pipe (`2>&1`), so that their output would be interleaved. */
export function sameTarget(a: object & { fd?: number }, b: object & { fd?: number }): boolean {
  if (a.fd === undefined || b.fd === undefined) return false
  try {
    const [first, second] = [fstatSync(a.fd), fstatSync(b.fd)]
    return first.dev === second.dev && first.ino === second.ino
  } catch {
    return false // one is closed
  }
}

/** Removes control characters other than line feed and tab, so that a model's text cannot control the terminal. */
export function printable(text: string): string {
  return text.replace(/\p{Cc}/gu, (character) => (character === '\n' || character === '\t' ? character : ''))
}
