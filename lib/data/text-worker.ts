/**
 * The process that tokenizes datasets, runs chat templates, and compiles grammars, so that the event loop stays free and
 * a template cannot block the program. The first message is its job; it sends answers until it is killed.
 */

import { stat } from 'node:fs/promises'
import { DataError, InternalError } from '../core/errors.js'
import { stoppingSignals } from '../core/system.js'
import { withinTime } from '../core/time-limit.js'
import type { PromptFormat } from '../formats/prompt-format.js'
import { compileGrammar } from '../grammar/grammar.js'
import type { TokenTable } from '../native/addon.js'
import { DEFAULT_TEMPLATE_LIMITS } from '../tokenizer/chat-template.js'
import { readTokenizerSource } from '../tokenizer/read-source.js'
import { tokenizerToGguf } from '../tokenizer/to-gguf.js'
import { type DecodeStream, tokenTexts } from '../tokenizer/token-texts.js'
import { loadTokenizer, type Tokenizer } from '../tokenizer/tokenizer.js'
import { AskedRowCollector } from './asked-rows.js'
import { type DatasetRow, type Detected, openDataset } from './dataset.js'
import { datasetRemarks } from './dataset-remarks.js'
import { RowEncoder } from './encode.js'
import { ChunkBuilder, countFound, emptyStats, Listings } from './encoded-dataset.js'
import type { DropReason, EncodedRow } from './encoded-row.js'
import { isWhole, textsOf } from './forms/index.js'
import { type PromptChat, PromptRenderer } from './prompt-tools.js'
import { RowSurvey } from './row-survey.js'
import { specialContents } from './special-text.js'
import { withTemplateFile } from './template-file.js'
import {
  type EncodeJob,
  type GgufTokenizerJob,
  type TextAnswer,
  type TextFeed,
  type TextJob,
  type TokenizerJob,
  type TokenizerQuestion,
  type TokenizerTold,
  toPlainError,
} from './text-jobs.js'

const PROGRESS_MILLISECONDS = 100

function answer(message: TextAnswer): void {
  if (!process.send) throw new InternalError('text-worker must run as a child process of lowrank')
  process.send(message)
}

/** Received messages that have not been processed. */
class Inbox {
  readonly #rows: TextFeed[] = []
  #waiting: (() => void)[] = []
  /** Chunks that may still be sent before one is taken. */
  #room = CHUNKS_AHEAD

  constructor() {
    process.on('message', (message: TextFeed) => {
      if (message.kind === 'taken') this.#room++
      else this.#rows.push(message)
      for (const wake of this.#waiting.splice(0)) wake()
    })
  }

  /** Waits until a chunk may be sent, so that chunks do not pile up. */
  async room(): Promise<void> {
    while (this.#room === 0) await this.#message()
    this.#room--
  }

  /** Requests more input and waits for it. */
  async *feed(): AsyncGenerator<Exclude<TextFeed, { kind: 'taken' | 'end' | 'render' }>, void, void> {
    for (;;) {
      answer({ kind: 'want' })
      while (this.#rows.length === 0) await this.#message()
      const message = this.#rows.shift() as TextFeed
      if (message.kind === 'end' || message.kind === 'taken' || message.kind === 'render') return
      yield message
    }
  }

  #message(): Promise<void> {
    return new Promise((wake) => this.#waiting.push(wake))
  }
}

const CHUNKS_AHEAD = 4

async function* sentBytes(inbox: Inbox): AsyncGenerator<Uint8Array, void, void> {
  for await (const message of inbox.feed()) if (message.kind === 'bytes') yield message.bytes
}

async function* sentRows(inbox: Inbox): AsyncGenerator<unknown, void, void> {
  for await (const message of inbox.feed()) if (message.kind === 'rows') yield* message.rows
}

async function encode(job: EncodeJob): Promise<void> {
  const { input, form, source, options, chunkTokens, rowLimit } = job
  const inbox = new Inbox()
  const encoder = new RowEncoder(
    'kind' in source ? await readTokenizerSource(source) : source,
    await withTemplateFile(options),
  )
  const stats = emptyStats()
  const survey = new RowSurvey(form.stripLabels)
  const listings = new Listings()
  let told: PromptFormat | null = null
  let remarked = 0
  const asked = new AskedRowCollector(encoder)
  let chunk = new ChunkBuilder()
  const send = async () => {
    const built = chunk.build()
    chunk = new ChunkBuilder()
    await inbox.room()
    const { format } = encoder
    stats.damagedText = survey.damagedText
    const remarks = datasetRemarks(detected, stats, options, false)
    const news = {
      asked: asked.take(),
      ...(format === told ? {} : { format }),
      ...(remarks.length === remarked ? {} : { remarks }),
    }
    answer({ kind: 'chunk', chunk: built, ...news })
    told = format
    remarked = remarks.length
  }
  const groupOf = new Map<string, number>()
  const groupIndex = (group: string) => {
    const index = groupOf.get(group) ?? groupOf.size
    groupOf.set(group, index)
    return index
  }
  const keep = (encoded: EncodedRow | DropReason, isFirst: boolean) => {
    if (typeof encoded === 'string') {
      stats.dropped++
      if (encoded === 'truncated_away') stats.droppedByTruncation++
      return
    }
    const { inputIds, labels, supervised, truncated, ended, line, group } = encoded
    const listing = listings.of(encoded, isFirst)
    const whose = group === undefined ? undefined : groupIndex(group)
    chunk.add(inputIds, labels, supervised, listing, line, whose, encoded)
    stats.examples++
    stats.tokens += inputIds.length
    stats.supervisedTokens += supervised
    if (truncated) stats.truncated++
    if (ended) stats.ended++
    countFound(stats, encoded)
  }
  const { milliseconds } = options.templateLimits ?? DEFAULT_TEMPLATE_LIMITS
  let reported = performance.now()
  let detected: Detected | undefined
  const rows = openDataset('paths' in input ? input.paths : { rows: sentRows(inbox), name: input.rows }, {
    ...form,
    asPrompts: options.asPrompts ?? false,
    stdin: sentBytes(inbox),
    onDetected: (found) => {
      detected = found
      answer({ kind: 'detected', detected })
    },
  })
  for await (const group of grouped(limited(rows, rowLimit))) {
    const encoded = encodeGroup(encoder, group, milliseconds)
    stats.rows += group.length
    for (const [i, examples] of encoded.entries()) {
      const row = group[i] as DatasetRow
      survey.add(row)
      // Text that is already rendered by the template is not a question.
      const isQuestion = !isWhole(row.format) || encoder.format?.form === 'raw'
      if (job.asked && isQuestion && typeof examples[0] === 'object') asked.add(row, stats.examples)
      for (const [index, example] of examples.entries()) {
        keep(example, index === 0)
        if (chunk.tokens >= chunkTokens) await send()
      }
    }
    if (performance.now() - reported >= PROGRESS_MILLISECONDS) {
      reported = performance.now()
      answer({ kind: 'progress', rows: stats.rows, tokens: stats.tokens })
    }
  }
  if (chunk.rows > 0) await send()
  Object.assign(stats, survey.findings)
  stats.remarks = datasetRemarks(detected, stats, options)
  const { usesClock, format } = encoder
  answer({ kind: 'encoded', stats, usesClock, format, paths: listings.paths })
}

async function* limited<T>(
  rows: AsyncIterable<T>,
  limit = Number.POSITIVE_INFINITY,
): AsyncGenerator<T, void, void> {
  let count = 0
  for await (const row of rows) {
    yield row
    if (++count >= limit) return
  }
}

/** If a group of rows exceeds its time limit, encodes each row under its own limit, so that the error names the row. */
function encodeGroup(encoder: RowEncoder, rows: readonly DatasetRow[], milliseconds: number) {
  const encodeAll = () => rows.map((row) => encoder.encodeAll(row))
  return (rows.length > 1 ? withinTime(milliseconds, encodeAll)?.value : undefined) ?? encodeAll()
}

/** Most rows and characters encoded under one time limit. */
const GROUP_ROWS = 32
const GROUP_CHARACTERS = 1 << 16

async function* grouped(rows: AsyncIterable<DatasetRow>): AsyncGenerator<DatasetRow[], void, void> {
  let group: DatasetRow[] = []
  let characters = 0
  for await (const row of rows) {
    group.push(row)
    characters += textsOf(row).reduce((sum, { length }) => sum + length, 0)
    if (group.length < GROUP_ROWS && characters < GROUP_CHARACTERS) continue
    yield group
    group = []
    characters = 0
  }
  if (group.length > 0) yield group
}

function renderAll(): void {
  let renderer: PromptRenderer | undefined
  let of: string | undefined
  process.on('message', (message: TextFeed) => {
    if (message.kind !== 'render') return
    const { chats, specialTokens, limits = DEFAULT_TEMPLATE_LIMITS } = message
    const asked = JSON.stringify([specialTokens, limits])
    if (renderer === undefined || asked !== of) renderer = new PromptRenderer(specialTokens, limits)
    of = asked
    const one = renderer
    const textOf = (chat: PromptChat) => {
      try {
        return one.render(chat)
      } catch (error) {
        if (error instanceof DataError) return toPlainError(error)
        throw error
      }
    }
    try {
      const texts = chats.map((chat) => {
        // One limit for all that a prompt takes; if it is exceeded, each part has its own.
        const done = withinTime(limits.milliseconds, () => textOf(chat))
        return done === undefined ? textOf(chat) : done.value
      })
      answer({ kind: 'rendered', texts })
    } catch (error) {
      answer({ kind: 'error', error: toPlainError(error) })
    }
  })
}

async function converse({ source: model }: TokenizerJob): Promise<void> {
  const tokenizer = loadTokenizer(await readTokenizerSource(model))
  const streams = new Map<number, DecodeStream>()
  let ofRows: RowEncoder | undefined
  const reply = (question: TokenizerQuestion): TokenizerTold => {
    if (question.what === 'encode') return Int32Array.from(tokenizer.encode(question.text, question.options))
    if (question.what === 'text') return tokenizer.decode(question.ids, question.options)
    if (question.what === 'table') return tableOf(tokenizer)
    if (question.what === 'grammar') return compileGrammar(question.part)
    if (question.what === 'texts') {
      const { tokens } = tokenizer
      return tokens === undefined ? null : tokenTexts(tokens, tokenizer.vocabSize)
    }
    if (question.what === 'end') {
      const rest = streams.get(question.stream)?.end() ?? ''
      streams.delete(question.stream)
      return rest
    }
    if (question.what === 'row') {
      const encoder = new RowEncoder(tokenizer, question.options)
      const encoded = encoder.encode(question.row)
      return { encoded, format: encoder.format }
    }
    if (question.what === 'rows') {
      ofRows ??= new RowEncoder(tokenizer, question.options)
      return encodeGroup(ofRows, question.rows, DEFAULT_TEMPLATE_LIMITS.milliseconds)
    }
    const stream = streams.get(question.stream) ?? tokenizer.decodeStream(question.options)
    streams.set(question.stream, stream)
    return stream.push(question.id)
  }
  process.on('message', (message: TextFeed) => {
    if (message.kind !== 'ask') return
    try {
      answer({ kind: 'told', told: reply(message.question) })
    } catch (error) {
      answer({ kind: 'refused', error: toPlainError(error) })
    }
  })
  const { vocabSize, eosIds, source } = tokenizer
  const about = { vocabSize, eosIds, specialTexts: specialContents(tokenizer) }
  answer({ kind: 'tokenizer', about: { ...about, source: { ...source, tokenizerJson: null } } })
}

async function toGguf({ source, rows, config }: GgufTokenizerJob): Promise<void> {
  const tokenizer = tokenizerToGguf(await readTokenizerSource(source), rows, config)
  answer({ kind: 'gguf_tokenizer', tokenizer })
}

async function work(job: TextJob): Promise<void> {
  try {
    if (job.kind === 'encode') await encode(job)
    else if (job.kind === 'tokenizer') await converse(job)
    else if (job.kind === 'gguf_tokenizer') await toGguf(job)
    else renderAll()
  } catch (error) {
    answer({ kind: 'error', error: toPlainError(error) })
  }
}

// Ctrl-C reaches every process of the terminal; the caller decides what happens to the job.
for (const name of stoppingSignals()) process.on(name, () => undefined)
process.on('disconnect', () => process.exit())
process.once('message', (job) => void work(job as TextJob))
// Reads files by the threads of Node.js, which it makes at the first use, and aborts if it may not.
void stat('.').finally(() => answer({ kind: 'started' }))

/** The bytes of all tokens. */
function tableOf(tokenizer: Tokenizer): TokenTable {
  const parts: Uint8Array[] = []
  const ends = new Int32Array(tokenizer.vocabSize)
  const special = new Uint8Array(tokenizer.vocabSize)
  let end = 0
  for (let id = 0; id < tokenizer.vocabSize; id++) {
    const bytes = tokenizer.bytesOf(id)
    if (bytes !== undefined) {
      parts.push(bytes)
      end += bytes.length
    }
    ends[id] = end
    special[id] = Number(tokenizer.isSpecial(id))
  }
  return { bytes: new Uint8Array(Buffer.concat(parts)), ends, special }
}
