/**
 * A tokenized dataset, kept compactly: token ids in a few large arrays, one bit per token for whether it is learned,
 * and a few numbers per row. Millions of tokens cost little more than four bytes each and no objects.
 */

import { InternalError } from '../core/errors.js'
import type { PromptFormat } from '../formats/prompt-format.js'
import type { Detected } from './dataset.js'
import { type EncodedRow, IGNORE } from './encoded-row.js'

/** Consecutive rows, whole. Its arrays can be handed from thread to thread without copying. */
export interface EncodedChunk {
  /** Ids of all rows, one after the other. */
  ids: Int32Array
  /** Bit `i % 8` of byte `i >> 3`: whether token i has a label. */
  learned: Uint8Array
  /** `[rows + 1]`: where each row starts in `ids`. */
  starts: Uint32Array
  /** `[rows]`: labels that count, those of a row's first token left out. */
  supervised: Uint32Array
  /** `[rows]`: index of the file. */
  files: Uint32Array
  /** `[rows]`: line in the file, from 1. */
  lines: Uint32Array
  /** `[rows]`: whose row it is, numbered as they first came; empty where nobody asked. */
  groups: Uint32Array
  /** `[rows]`: tokens of the first of two answers that a row holds; empty where rows hold one. */
  splits: Uint32Array
  /** `[rows]`: id of the class that a row has; empty where rows have none. */
  targets: Uint32Array
}

/** Counts of rows that were read, dropped, and truncated. */
export interface DatasetStats {
  /** Rows read. */
  rows: number
  /** Examples made of them: a document that is too long makes several, a row that is left out none. */
  examples: number
  /** Rows left out because nothing in them is learned. */
  dropped: number
  /** Rows of `dropped` whose learned part was cut off by `max_seq_length`. */
  droppedByTruncation: number
  /** Rows kept, but cut. */
  truncated: number
  /** Examples that teach where an answer ends, and all of plain text. */
  ended: number
  /** Tokens of the rows that were kept. */
  tokens: number
  /** Tokens with a label that counts. */
  supervisedTokens: number
  /** Assistant turns that are not learned, since they are empty. */
  emptyTurns: number
  /** Special tokens in the text of the data: rows that hold some, and the first of them. */
  specialTokens: { rows: number; first?: { token: string; path: string; line: number; unit?: 'row' } }
  /**
   * Rows that are learned without the reasoning of a turn, which the chat template leaves out, and the first of them.
   */
  lostReasoning: { rows: number; first?: { path: string; line: number; unit?: 'row' } }
  /** Warnings about likely mistakes; usually empty. */
  remarks: string[]
}

/** Collects rows into a chunk. */
export class ChunkBuilder {
  #ids = new Int32Array(1 << 12)
  #learned = new Uint8Array(1 << 9)
  readonly #starts = [0]
  readonly #supervised: number[] = []
  readonly #files: number[] = []
  readonly #lines: number[] = []
  readonly #groups: number[] = []
  readonly #splits: number[] = []
  readonly #targets: number[] = []

  get tokens(): number {
    return this.#starts.at(-1) as number
  }

  get rows(): number {
    return this.#lines.length
  }

  add(
    inputIds: Int32Array,
    labels: Int32Array,
    supervised: number,
    file: number,
    line: number,
    group?: number,
    { split, target }: Pick<EncodedRow, 'split' | 'target'> = {},
  ): void {
    const start = this.tokens
    const end = start + inputIds.length
    if (end > this.#ids.length) this.#grow(end)
    this.#ids.set(inputIds, start)
    for (let i = start; i < end; i++) {
      if (labels[i - start] !== IGNORE) (this.#learned[i >> 3] as number) |= 1 << (i & 7)
    }
    this.#starts.push(end)
    this.#supervised.push(supervised)
    this.#files.push(file)
    this.#lines.push(line)
    if (group !== undefined) this.#groups.push(group)
    if (split !== undefined) this.#splits.push(split)
    if (target !== undefined) this.#targets.push(target)
  }

  #grow(tokens: number): void {
    const capacity = Math.max(tokens, 2 * this.#ids.length)
    const ids = new Int32Array(capacity)
    ids.set(this.#ids)
    const learned = new Uint8Array(Math.ceil(capacity / 8))
    learned.set(this.#learned)
    this.#ids = ids
    this.#learned = learned
  }

  /** The chunk, its arrays cut to size. */
  build(): EncodedChunk {
    return {
      ids: this.#ids.slice(0, this.tokens),
      learned: this.#learned.slice(0, Math.ceil(this.tokens / 8)),
      starts: Uint32Array.from(this.#starts),
      supervised: Uint32Array.from(this.#supervised),
      files: Uint32Array.from(this.#files),
      lines: Uint32Array.from(this.#lines),
      groups: Uint32Array.from(this.#groups),
      splits: Uint32Array.from(this.#splits),
      targets: Uint32Array.from(this.#targets),
    }
  }
}

/** Counts what was found in an example; of a document that makes several, the first tells of the whole. */
export function countFound(
  stats: DatasetStats,
  { emptyTurns, lostReasoning, specialTokens, path, line, unit }: EncodedRow,
): void {
  const place = { path, line, ...(unit ? { unit } : {}) }
  stats.emptyTurns += emptyTurns
  if (lostReasoning > 0) {
    stats.lostReasoning.rows++
    stats.lostReasoning.first ??= place
  }
  const [token] = specialTokens
  if (token === undefined) return
  stats.specialTokens.rows++
  stats.specialTokens.first ??= { token, ...place }
}

export function emptyStats(): DatasetStats {
  return {
    rows: 0,
    examples: 0,
    dropped: 0,
    droppedByTruncation: 0,
    truncated: 0,
    ended: 0,
    tokens: 0,
    supervisedTokens: 0,
    emptyTurns: 0,
    specialTokens: { rows: 0 },
    lostReasoning: { rows: 0 },
    remarks: [],
  }
}

/** Rows by index from 0, in the order of the files. */
export class EncodedDataset {
  readonly stats: DatasetStats
  /** Current time as seen by templates, in milliseconds since 1970; the same value gives the same tokens. */
  readonly now: number
  /** True if a template read the date. */
  readonly usesClock: boolean
  readonly paths: readonly string[]
  /** Prompt format of the rows; null without rows. */
  readonly format: PromptFormat | null
  /** Detected properties of the data; absent without rows. */
  readonly detected: Detected | undefined
  readonly #chunks: readonly EncodedChunk[]
  /** `[chunks + 1]`: index of each chunk's first row. */
  readonly #firstRows: Uint32Array

  constructor(
    chunks: readonly EncodedChunk[],
    about: {
      stats: DatasetStats
      now: number
      usesClock: boolean
      format?: PromptFormat | null
      paths: readonly string[]
      detected?: Detected | undefined
    },
  ) {
    this.#chunks = chunks
    this.stats = about.stats
    this.now = about.now
    this.usesClock = about.usesClock
    this.paths = about.paths
    this.format = about.format ?? null
    this.detected = about.detected
    this.#firstRows = new Uint32Array(chunks.length + 1)
    for (const [index, { lines }] of chunks.entries()) {
      this.#firstRows[index + 1] = (this.#firstRows[index] as number) + lines.length
    }
  }

  /** The rows of a chunk on its own. */
  static of(chunk: EncodedChunk): EncodedDataset {
    return new EncodedDataset([chunk], { stats: emptyStats(), now: 0, usesClock: false, paths: [] })
  }

  /** Number of rows. */
  get length(): number {
    return this.#firstRows[this.#chunks.length] as number
  }

  /** Bytes held by the arrays. */
  get bytes(): number {
    let bytes = 0
    for (const chunk of this.#chunks) {
      for (const array of Object.values(chunk)) bytes += (array as ArrayBufferView).byteLength
    }
    return bytes
  }

  /** Number of tokens of a row. */
  rowLength(row: number): number {
    const { chunk, index } = this.#find(row)
    return (chunk.starts[index + 1] as number) - (chunk.starts[index] as number)
  }

  /** Number of labels of a row that count. */
  rowSupervised(row: number): number {
    const { chunk, index } = this.#find(row)
    return chunk.supervised[index] as number
  }

  /** True if each row holds two answers. */
  get paired(): boolean {
    return this.#chunks.some(({ splits }) => splits.length > 0)
  }

  /** Number of tokens of the first of two answers; undefined in a row that holds one. */
  rowSplit(row: number): number | undefined {
    const { chunk, index } = this.#find(row)
    return chunk.splits[index]
  }

  /** Id of the class of a row; undefined in rows that have none. */
  rowTarget(row: number): number | undefined {
    const { chunk, index } = this.#find(row)
    return chunk.targets[index]
  }

  /** Group of a row, for data read with `groupBy`: a number from 0. */
  rowGroup(row: number): number {
    const { chunk, index } = this.#find(row)
    return chunk.groups[index] as number
  }

  /** Origin of a row. */
  place(row: number): { path: string; line: number } {
    const { chunk, index } = this.#find(row)
    return { path: this.paths[chunk.files[index] as number] as string, line: chunk.lines[index] as number }
  }

  /** Ids of a row: a view that must not be written to. */
  ids(row: number): Int32Array {
    const { chunk, index } = this.#find(row)
    return chunk.ids.subarray(chunk.starts[index], chunk.starts[index + 1])
  }

  /** Labels of a row: the id of each token itself, or -100; of a row with a class that, at the last token. */
  labels(row: number): Int32Array {
    const { chunk, index } = this.#find(row)
    const start = chunk.starts[index] as number
    const labels = this.ids(row).map((id, i) => (isLearned(chunk, start + i) ? id : IGNORE))
    const target = chunk.targets[index]
    if (target !== undefined) labels[labels.length - 1] = target
    return labels
  }

  /**
   * Writes a row into a micro-batch. The label of a token is the one of its successor; the last, also that of the first of
   * two answers, has none, or the class of the row.
   * @returns number of tokens written
   */
  copyShifted(row: number, tokens: Int32Array, labels: Int32Array, offset: number): number {
    const { chunk, index } = this.#find(row)
    const start = chunk.starts[index] as number
    const length = (chunk.starts[index + 1] as number) - start
    tokens.set(chunk.ids.subarray(start, start + length), offset)
    for (let i = 0; i + 1 < length; i++) {
      const next = start + i + 1
      labels[offset + i] = isLearned(chunk, next) ? (chunk.ids[next] as number) : IGNORE
    }
    labels[offset + length - 1] = chunk.targets[index] ?? IGNORE
    const split = chunk.splits[index]
    if (split !== undefined) labels[offset + split - 1] = IGNORE
    return length
  }

  #find(row: number): { chunk: EncodedChunk; index: number } {
    let low = 0
    let high = this.#chunks.length
    while (high - low > 1) {
      const middle = (low + high) >> 1
      if ((this.#firstRows[middle] as number) <= row) low = middle
      else high = middle
    }
    const chunk = this.#chunks[low]
    const index = row - (this.#firstRows[low] as number)
    if (!chunk || !(index >= 0 && index < chunk.lines.length)) {
      throw new InternalError(`the dataset has ${this.length} rows, so there is no row ${row}`, { row })
    }
    return { chunk, index }
  }
}

function isLearned({ learned }: EncodedChunk, token: number): boolean {
  return ((learned[token >> 3] as number) & (1 << (token & 7))) !== 0
}
