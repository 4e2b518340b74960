/** Code shared by verbs that generate text: sampling flags and progress. */
import type { Command } from 'commander'
import type { PromptProgress } from '../train/decoding/decoder.js'
import { integerFlag, numberFlag } from './help.js'
import { columnsOf } from './live-lines.js'
import { type Output, printable, sameTarget } from './output.js'
import { StatusLine } from './progress.js'
import { WordWrap } from './word-wrap.js'

/** Sampling flags. */
export interface SamplingFlags {
  maxNewTokens?: number
  temperature?: number
  topK?: number
  topP?: number
  seed?: number
}

/** @param maxNewTokens default of `--max-new-tokens` */
export function samplingFlags(command: Command, maxNewTokens: number): void {
  command.option(
    '--max-new-tokens <N>',
    `maximum tokens per answer (default ${maxNewTokens})`,
    integerFlag(1),
  )
  command.option(
    '--temperature <T>',
    'sampling temperature; 0 (default) takes the most likely token',
    numberFlag(0, 100),
  )
  command.option('--top-k <K>', 'sample from the K most likely tokens', integerFlag(0))
  command.option(
    '--top-p <P>',
    'sample from the most likely tokens with this total probability',
    numberFlag(0, 1),
  )
  command.option('--seed <S>', 'seed of the sampling (default 0)', integerFlag(0))
}

/** The given flags as generation options. */
export function samplingOf({ maxNewTokens, temperature, topK, topP, seed }: SamplingFlags) {
  const given = Object.entries({ maxNewTokens, temperature, topK, topP, seed })
  return Object.fromEntries(given.filter(([, value]) => value !== undefined))
}

/**
 * Shows an answer as it is generated: text goes to stdout piece by piece. Progress of the prompt, and of text
 * that is not visible, goes to stderr.
 */
export class AnswerShown {
  readonly #output: Output
  /** True if the growing text is visible. */
  readonly #seen: boolean
  /** Wraps text at the width of a terminal. */
  readonly #wrap: WordWrap | undefined
  #line: StatusLine
  #length = 0
  #begun = false

  constructor(output: Output) {
    this.#output = output
    this.#seen = !output.json && (output.stdout.isTTY === true || sameTarget(output.stdout, output.stderr))
    this.#line = new StatusLine(output, 'Reading the prompt')
    const { json, stdout } = output
    if (!json && stdout.isTTY)
      this.#wrap = new WordWrap(
        (text) => void stdout.write(text),
        () => columnsOf(stdout),
      )
  }

  /** True if any text was generated. */
  get begun(): boolean {
    return this.#begun
  }

  readonly onPromptProgress = ({ tokens, totalTokens }: PromptProgress): void => {
    // A prompt that is processed in one call needs no progress.
    if (tokens > 0 && tokens < totalTokens) this.#line.update(`${tokens} of ${totalTokens} tokens`)
  }

  piece(text: string): void {
    const { json, stdout } = this.#output
    if (!this.#begun) {
      this.#begun = true
      this.#line.clear()
      if (!this.#seen) this.#line = new StatusLine(this.#output, 'Writing')
    }
    this.#length += text.length
    if (!this.#seen) this.#line.update(`${this.#length} characters`)
    if (this.#wrap) this.#wrap.piece(printable(text))
    else if (!json) stdout.write(text)
  }

  /** Must always be called at the end, even after errors. */
  end(): void {
    this.#wrap?.end()
    this.#line.clear()
  }
}
