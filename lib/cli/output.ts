/**
 * Output of a verb. Without --json its answer is text on stdout; with it, stdout carries only JSON. Notes,
 * warnings and progress go to stderr either way, so that stdout can be piped. On a terminal no word is broken.
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
    /** True if stdout is for programs. */
    readonly json: boolean,
    readonly stdout: NodeJS.WriteStream = process.stdout,
    readonly stderr: NodeJS.WriteStream = process.stderr,
  ) {}

  /** Says nothing. */
  static silent(): Output {
    const nowhere = new Writable({
      write: (_chunk, _encoding, done) => done(),
    }) as unknown as NodeJS.WriteStream
    return new Output(false, nowhere, nowhere)
  }

  /** The one answer of a verb, as data and as text. The verb has to be named, and holds the data to its schema. */
  answer<Name extends Verb = never>(data: NoInfer<Printed<Name>>, text: () => string): void {
    if (this.json) this.#line(data)
    else this.text(text())
  }

  /** For people, on stdout; nothing when stdout is for programs. */
  text(text: string): void {
    if (!this.json) this.#print(forTerminal(this.stdout, text))
  }

  /** One line of a verb's stream of JSON; nothing when stdout is for people. */
  event<Name extends Verb = never>(data: NoInfer<Printed<Name>>): void {
    this.#line(data)
  }

  /** The last line of stdout when a verb fails; nothing when stdout is for people. */
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

  /** The lines of stderr that are drawn anew. */
  get live(): LiveLines {
    return LiveLines.of(this.stderr)
  }

  /** For people, on stderr. */
  note(text: string): void {
    this.live.above(() => void this.stderr.write(`${forTerminal(this.stderr, text)}\n`))
  }

  /** True if the answer goes to a terminal with colors. */
  get colors(): boolean {
    return hasColors(this.stdout)
  }

  /** Text in a color or weight where the answer goes to a terminal that has them. */
  styled(style: Style, text: string): string {
    return styledFor(this.stdout, style, text)
  }
}

/** Lines as a terminal can show them; anything else gets them as they are. */
function forTerminal(stream: NodeJS.WriteStream, text: string): string {
  return stream.isTTY ? wrapped(text, columnsOf(stream)) : text
}

/** Colors only on a terminal, unless FORCE_COLOR says otherwise; `hasColors` also minds NO_COLOR and TERM=dumb. */
export function styledFor(stream: NodeJS.WriteStream, style: Style, text: string): string {
  return hasColors(stream) ? styleText(style, text, { validateStream: false }) : text
}

function hasColors(stream: NodeJS.WriteStream): boolean {
  const { FORCE_COLOR: force } = process.env
  return force === undefined ? stream.isTTY && stream.hasColors() : force !== '0' && force !== 'false'
}

/** True if two streams are the same file or pipe (`2>&1`), so that their texts would mix. */
export function sameTarget(a: object & { fd?: number }, b: object & { fd?: number }): boolean {
  if (a.fd === undefined || b.fd === undefined) return false
  try {
    const [first, second] = [fstatSync(a.fd), fstatSync(b.fd)]
    return first.dev === second.dev && first.ino === second.ino
  } catch {
    return false // one is closed
  }
}

/** Text of a model, which must not steer the terminal: control characters but line feed and tab are left out. */
export function printable(text: string): string {
  return text.replace(/\p{Cc}/gu, (character) => (character === '\n' || character === '\t' ? character : ''))
}
