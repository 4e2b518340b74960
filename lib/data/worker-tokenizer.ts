/**
 * A model's tokenizer in a long-lived worker process. Loading a tokenizer and tokenizing a long text take a
 * while, and would block the program's event loop.
 */
import { InternalError } from '../core/errors.js'
import type { GrammarPart } from '../grammar/grammar.js'
import type { GrammarTables, TokenTable } from '../native/addon.js'
import { Lifetime } from '../native/handles.js'
import type { TokenizerOfModel } from '../tokenizer/source.js'
import type { ConfigTokens, TokenizerFields } from '../tokenizer/to-gguf.js'
import {
  type DecodeOptions,
  decodeStreamOf,
  type StreamOptions,
  type Tokens,
  type TokenTexts,
  tokensOf,
} from '../tokenizer/token-texts.js'
import type { EncodeOptions } from '../tokenizer/tokenizer.js'
import type { DatasetRow } from './dataset.js'
import type { DropReason, EncodedRow, EncodeRowOptions } from './encoded-row.js'
import { SpecialMarker } from './special-text.js'
import { TextCall } from './text-call.js'
import {
  type FormattedRow,
  fromPlainError,
  type TokenizerAbout,
  type TokenizerQuestion,
  type TokenizerTold,
} from './text-jobs.js'

/** Heap limit of the worker in MB; a vocabulary of 260,000 tokens takes about 300 MB. */
const MEGABYTES = 1024

/** See `DecodeStream`. */
export interface WorkerDecodeStream {
  push(id: number): Promise<string>
  end(): Promise<string>
}

interface Asked {
  resolve(told: TokenizerTold): void
  reject(error: unknown): void
}

/** Answers arrive in the order of the questions. The process may end while no question is open. */
export class WorkerTokenizer {
  readonly about: TokenizerAbout
  readonly #call: TextCall
  readonly #lifetime: Lifetime
  readonly #asked: Asked[] = []
  #failure: { error: unknown } | undefined
  #streams = 0
  #table: Promise<TokenTable> | undefined
  #tokens: Promise<Tokens | null> | undefined
  #marker: SpecialMarker | undefined
  readonly #single = new Map<string, Promise<number | undefined>>()

  private constructor(about: TokenizerAbout, call: TextCall, lifetime: Lifetime) {
    this.about = about
    this.#call = call
    this.#lifetime = lifetime
    void this.#listen()
  }

  /**
   * Reads the model's tokenizer. Throws the errors of `readTokenizerSource` and `loadTokenizer`.
   * @param lifetime lifetime of the model, if there is one
   */
  static async open(
    model: TokenizerOfModel,
    lifetime = new Lifetime('The tokenizer', 'open it again'),
  ): Promise<WorkerTokenizer> {
    return lifetime.use(async () => {
      const call = new TextCall({ kind: 'tokenizer', source: model }, MEGABYTES)
      try {
        const answer = await call.next()
        if (answer.kind !== 'tokenizer')
          throw new InternalError(`the text worker answered ${answer.kind} to a tokenizer`)
        call.unref()
        return new WorkerTokenizer(answer.about, call, lifetime)
      } catch (error) {
        await call.close()
        throw error
      }
    })
  }

  /** True once the worker has failed or ended; it answers nothing more. */
  get hasFailed(): boolean {
    return this.#failure !== undefined
  }

  async encode(text: string, options: EncodeOptions): Promise<Int32Array> {
    return (await this.#ask({ what: 'encode', text, options })) as Int32Array
  }

  async decode(ids: Int32Array, options: DecodeOptions): Promise<string> {
    return (await this.#ask({ what: 'text', ids, options })) as string
  }

  /** A value with the special tokens in its texts marked as plain text, for `encode` with `marked`. */
  escaped<T>(value: T): T {
    this.#marker ??= new SpecialMarker(this.about.specialTexts)
    return this.#marker.escapeIn(value)
  }

  /** The bytes of all tokens; without any where its decoder is not supported. */
  async table(): Promise<TokenTable> {
    this.#table ??= this.#ask({ what: 'table' }) as Promise<TokenTable>
    return this.#table
  }

  /** A row, or why it was dropped, and its prompt format; see `RowEncoder`. */
  async encodeRow(row: DatasetRow, options: EncodeRowOptions): Promise<FormattedRow> {
    return (await this.#ask({ what: 'row', row, options })) as FormattedRow
  }

  /** `RowEncoder.encodeAll` for each row; the options of the first call apply to all calls. */
  async encodeRows(rows: DatasetRow[], options: EncodeRowOptions): Promise<(EncodedRow | DropReason)[][]> {
    return (await this.#ask({ what: 'rows', rows, options })) as (EncodedRow | DropReason)[][]
  }

  /**
   * See `compileGrammar`, which takes a while for a large schema.
   * @throws {ConfigError} for a schema that cannot be followed
   */
  async grammar(part: GrammarPart): Promise<GrammarTables> {
    return (await this.#ask({ what: 'grammar', part })) as GrammarTables
  }

  /** The id of a text that is one token. */
  singleId(text: string): Promise<number | undefined> {
    const known = this.#single.get(text)
    if (known !== undefined) return known
    const asked = this.encode(text, { addSpecialTokens: false }).then((ids) =>
      ids.length === 1 ? ids[0] : undefined,
    )
    this.#single.set(text, asked)
    asked.catch(() => this.#single.delete(text))
    return asked
  }

  /** See `Tokenizer.decodeStream`. A stream that has been started must be ended. */
  decodeStream(options: StreamOptions): WorkerDecodeStream {
    // Each token would otherwise wait for a message to the worker and back.
    this.#tokens ??= this.#ask({ what: 'texts' }).then((told) =>
      told === null ? null : tokensOf(told as TokenTexts),
    )
    const opened = this.#tokens.then((tokens) =>
      tokens === null ? this.#streamThere(options) : decodeStreamOf(tokens, options),
    )
    opened.catch(() => undefined)
    return { push: async (id) => (await opened).push(id), end: async () => (await opened).end() }
  }

  #streamThere(options: StreamOptions): WorkerDecodeStream {
    const stream = this.#streams++
    return {
      push: async (id) => (await this.#ask({ what: 'decode', stream, options, id })) as string,
      end: async () => (await this.#ask({ what: 'end', stream })) as string,
    }
  }

  /** Ends the worker; pending questions reject. */
  close(): Promise<void> {
    this.#call.fail(new InternalError('the tokenizer was closed'))
    return this.#call.close()
  }

  #ask(question: TokenizerQuestion): Promise<TokenizerTold> {
    return this.#lifetime.use(
      () =>
        new Promise((resolve, reject) => {
          if (this.#failure) throw this.#failure.error
          this.#asked.push({ resolve, reject })
          this.#call.ref()
          this.#call.send({ kind: 'ask', question })
        }),
    )
  }

  async #listen(): Promise<void> {
    try {
      for (;;) {
        const answer = await this.#call.next()
        const asked = this.#asked.shift()
        if (this.#asked.length === 0) this.#call.unref()
        if (answer.kind === 'told') asked?.resolve(answer.told)
        else if (answer.kind === 'refused') asked?.reject(fromPlainError(answer.error))
        else throw new InternalError(`the text worker answered ${answer.kind} to a question`)
      }
    } catch (error) {
      this.#failure = { error }
      for (const { reject } of this.#asked.splice(0)) reject(error)
    }
  }
}

/** Runs `tokenizerToGguf` in a worker, since it tokenizes texts. */
export async function ggufTokenizerOf(
  source: TokenizerOfModel,
  rows: number,
  config: ConfigTokens,
): Promise<TokenizerFields> {
  const call = new TextCall({ kind: 'gguf_tokenizer', source, rows, config }, MEGABYTES)
  try {
    const answer = await call.next()
    if (answer.kind === 'gguf_tokenizer') return answer.tokenizer
    throw new InternalError(`the text worker answered ${answer.kind} to a tokenizer for GGUF`)
  } finally {
    await call.close()
  }
}
