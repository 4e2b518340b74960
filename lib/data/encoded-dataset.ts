/**
 * A tokenized dataset in compact form: token ids in a few large arrays, one bit per token for whether it is
 * trained on, and a few numbers per row. Each token costs little more than four bytes, without any objects.
 */

import { resolve } from 'node:path'
import { InternalError } from '../core/errors.js'
import type { PromptFormat } from '../formats/prompt-format.js'
import type { Detected } from './dataset.js'
import { type EncodedRow, IGNORE } from './encoded-row.js'
import type { RowFindings } from './row-survey.js'

/** Consecutive whole rows. The arrays can be transferred between threads without copying. */
export interface EncodedChunk {
  /** Ids of all rows, concatenated. */
  ids: Int32Array
  /** Bit `i % 8` of byte `i >> 3`: whether token i has a label. */
  learned: Uint8Array
  /** `[rows + 1]`: start of each row in `ids`. */
  starts: Uint32Array
  /** `[rows]`: number of labels, not counting the first token of the row. */
  supervised: Uint32Array
  /** `[rows]`: index of the file; a file that is listed again has another. */
  files: Uint32Array
  /** `[rows]`: line in the file, from 1. */
  lines: Uint32Array
  /** `[rows]`: group of the row, numbered in order of appearance; empty without `groupBy`. */
  groups: Uint32Array
  /** `[rows]`: number of tokens in the first of a row's two answers; empty if rows have one. */
  splits: Uint32Array
  /** `[rows]`: class id of the row; empty if rows have no classes. */
  targets: Uint32Array
  /** `[rows]`: 1 for a desirable answer, 0 for an undesirable one; empty if rows do not say. */
  desirable: Uint8Array
  /** JSON of what each row has beside its prompt, in UTF-8, concatenated; empty unless rows are read as prompts. */
  items: Uint8Array
  /** `[rows]`: end of the JSON of each row in `items`. */
  itemEnds: Uint32Array
}

/** Counts of rows that were read, dropped, and truncated. */
export interface DatasetStats extends RowFindings {
  /** Rows read. */
  rows: number
  /** Examples made from the rows: a long document makes several, a dropped row none. */
  examples: number
  /** Rows dropped because nothing in them is trained on. */
  dropped: number
  /** Rows in `dropped` whose trained part was cut off by `max_seq_length`. */
  droppedByTruncation: number
  /** Rows that were kept but truncated. */
  truncated: number
  /** Examples that train the end of an answer; includes all plain text. */
  ended: number
  /** Tokens in the kept rows. */
  tokens: number
  /** Tokens with a label, not counting the first token of each row. */
  supervisedTokens: number
  /** Assistant turns that are not trained on because they are empty. */
  emptyTurns: number
  /** Special tokens in the text of the data: the number of rows that contain any, and the first one. */
  specialTokens: { rows: number; first?: { token: string; path: string; line: number; unit?: 'row' } }
  /**
   * Rows trained on without the reasoning of some turn, which the chat template omits: their number, and the
   * first one.
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
  readonly #desirable: number[] = []
  readonly #items: Uint8Array[] = []
  readonly #itemEnds: number[] = []

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
    { split, target, desirable, item }: Pick<EncodedRow, 'split' | 'target' | 'desirable' | 'item'> = {},
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
    if (desirable !== undefined) this.#desirable.push(Number(desirable))
    if (item === undefined) return
    const json = Buffer.from(item)
    this.#items.push(json)
    this.#itemEnds.push((this.#itemEnds.at(-1) ?? 0) + json.length)
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

  /** The chunk, with its arrays trimmed to size. */
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
      desirable: Uint8Array.from(this.#desirable),
      items: Uint8Array.from(Buffer.concat(this.#items)),
      itemEnds: Uint32Array.from(this.#itemEnds),
    }
  }
}

/** The files of a dataset as they are read, each as often as it is listed. */
export class Listings {
  readonly paths: string[] = []
  #line = 0

  /**
   * Index of the file that an example is from. A line number that does not increase means that the file is read again.
   * @param isFirst false for further examples of a row, which have its line
   */
  of({ path, line }: Pick<EncodedRow, 'path' | 'line'>, isFirst: boolean): number {
    if (path !== this.paths.at(-1) || (isFirst && line <= this.#line)) this.paths.push(path)
    this.#line = line
    return this.paths.length - 1
  }
}

/** Counts the findings of an example. For a document split into several, the first example has the findings of all. */
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
    classes: [],
    damagedText: { rows: 0 },
    misspelled: [],
    remarks: [],
  }
}

/** Rows, indexed from 0 in the order of the files. */
export class EncodedDataset {
  readonly stats: DatasetStats
  /** Current time as seen by templates, in milliseconds since 1970; the same value gives the same tokens. */
  readonly now: number
  /** True if a template read the date. */
  readonly usesClock: boolean
  /** Paths of the files, as often as they are listed. */
  readonly paths: readonly string[]
  /** Prompt format of the rows; null without rows. */
  readonly format: PromptFormat | null
  /** Detected properties of the data; absent without rows. */
  readonly detected: Detected | undefined
  /** True if the examples of a row are one chat, which must not be both trained on and held out. */
  readonly wholeRows: boolean
  /** `paths`, absolute. */
  readonly #resolved: readonly string[]
  readonly #chunks: readonly EncodedChunk[]
  /** `[chunks + 1]`: index of the first row of each chunk. */
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
      wholeRows?: boolean
    },
  ) {
    this.#chunks = chunks
    this.stats = about.stats
    this.now = about.now
    this.usesClock = about.usesClock
    this.paths = about.paths
    this.#resolved = about.paths.map((path) => resolve(path))
    this.format = about.format ?? null
    this.detected = about.detected
    this.wholeRows = about.wholeRows ?? false
    this.#firstRows = new Uint32Array(chunks.length + 1)
    for (const [index, { lines }] of chunks.entries()) {
      this.#firstRows[index + 1] = (this.#firstRows[index] as number) + lines.length
    }
  }

  /** A dataset of a single chunk. */
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

  /** Number of tokens in a row. */
  rowLength(row: number): number {
    const { chunk, index } = this.#find(row)
    return (chunk.starts[index + 1] as number) - (chunk.starts[index] as number)
  }

  /** Number of labels in a row, not counting its first token. */
  rowSupervised(row: number): number {
    const { chunk, index } = this.#find(row)
    return chunk.supervised[index] as number
  }

  /** True if each row holds two answers. */
  get paired(): boolean {
    return this.#chunks.some(({ splits }) => splits.length > 0)
  }

  /** True if each row says whether its answer is desirable. */
  get judged(): boolean {
    return this.#chunks.some(({ desirable }) => desirable.length > 0)
  }

  /** True if rows are prompts, which may have an item. */
  get prompts(): boolean {
    return this.#chunks.some(({ itemEnds }) => itemEnds.length > 0)
  }

  /** JSON of what a row has beside its prompt; empty if there is nothing. */
  rowItem(row: number): string {
    const { chunk, index } = this.#find(row)
    const { items, itemEnds } = chunk
    return Buffer.from(items.subarray(itemEnds[index - 1] ?? 0, itemEnds[index] ?? 0)).toString('utf8')
  }

  /** Number of tokens in the first of a row's two answers; undefined if the row has one. */
  rowSplit(row: number): number | undefined {
    const { chunk, index } = this.#find(row)
    return chunk.splits[index]
  }

  /** True if the answer of a row is desirable; undefined if the rows have no such labels. */
  rowDesirable(row: number): boolean | undefined {
    const { chunk, index } = this.#find(row)
    const desirable = chunk.desirable[index]
    return desirable === undefined ? undefined : desirable === 1
  }

  /** Class id of a row; undefined if it has none. */
  rowTarget(row: number): number | undefined {
    const { chunk, index } = this.#find(row)
    return chunk.targets[index]
  }

  /** Group of a row, numbered from 0, for data read with `groupBy`. */
  rowGroup(row: number): number {
    const { chunk, index } = this.#find(row)
    return chunk.groups[index] as number
  }

  /** Position of a row in its file. */
  place(row: number): { path: string; line: number } {
    const { chunk, index } = this.#find(row)
    return { path: this.paths[chunk.files[index] as number] as string, line: chunk.lines[index] as number }
  }

  /** Index of the file of a row in `paths`. */
  file(row: number): number {
    const { chunk, index } = this.#find(row)
    return chunk.files[index] as number
  }

  /** Absolute path of the file of a row, which is the same however the file is listed. */
  filePath(row: number): string {
    return this.#resolved[this.file(row)] as string
  }

  /** True if a file is listed more than once, so that there are copies of its rows. */
  get hasCopies(): boolean {
    return new Set(this.#resolved).size < this.paths.length
  }

  /** Ids of a row: a view that must not be modified. */
  ids(row: number): Int32Array {
    const { chunk, index } = this.#find(row)
    return chunk.ids.subarray(chunk.starts[index], chunk.starts[index + 1])
  }

  /** Labels of a row: the id of each token itself, or -100; in a row with a class, the class id at the last token. */
  labels(row: number): Int32Array {
    const { chunk, index } = this.#find(row)
    const start = chunk.starts[index] as number
    const labels = this.ids(row).map((id, i) => (isLearned(chunk, start + i) ? id : IGNORE))
    const target = chunk.targets[index]
    if (target !== undefined) labels[labels.length - 1] = target
    return labels
  }

  /**
   * Writes a row into a micro-batch. The label of a token is the one of its successor. The last token of the
   * row, or of each of its two answers, has no label, or the class of the row.
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
