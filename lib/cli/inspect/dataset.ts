/**
 * Contents of a dataset: its format, its rows, and duplicates; with a model also their lengths, truncation, and
 * the trained part. Data that training would refuse is refused here, with the same message.
 */
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { ConfigError } from '../../core/errors.js'
import {
  type Columns,
  type DatasetForm,
  type DatasetFormat,
  type DatasetRow,
  type Detected,
  type FileType,
  openDataset,
  placeName,
} from '../../data/dataset.js'
import { datasetRemarks } from '../../data/dataset-remarks.js'
import { checkLearnable, inputName } from '../../data/encode-dataset.js'
import { countFound, type DatasetStats, emptyStats } from '../../data/encoded-dataset.js'
import type {
  DropReason,
  EmptyRows,
  EncodedRow,
  EncodeRowOptions,
  ReasoningHistory,
  TrainOn,
  Unended,
} from '../../data/encoded-row.js'
import { hasClasses, isAsked } from '../../data/forms/index.js'
import { RowSurvey } from '../../data/row-survey.js'
import type { SpecialTokensInContent } from '../../data/special-text.js'
import { WorkerTokenizer } from '../../data/worker-tokenizer.js'
import { openModelFiles } from '../../models/index.js'
import type { TokenizerOfModel } from '../../tokenizer/source.js'
import { locateShown } from '../download.js'
import { classesText, facts, formatCount, shortPath } from '../format.js'
import { columnsOf } from '../live-lines.js'
import type { Output } from '../output.js'
import { StatusLine } from '../progress.js'
import type { Printed } from '../schemas.js'
import { Duplicates, type Place, type Repeats } from './duplicates.js'
import { markedText, type Part, partsOf, visible } from './examples.js'
import type { Inspection } from './inspection.js'
import { barChart, lengthBars, lengthsOf } from './lengths.js'

/** Number of rows shown by default. */
const SHOWN_ROWS = 2
const NO_LIMIT = 2 ** 31 - 1
const PROGRESS_ROWS = 64
/** Number of rows passed to the tokenizer at a time. */
const ROWS_AT_ONCE = 32
const BREAK: Part = { text: '\n', trained: false }

export interface DatasetInspection {
  format?: DatasetFormat | 'auto'
  fileType?: FileType | 'auto'
  columns?: Columns
  model?: string
  maxSeqLength?: number
  trainOn?: TrainOn
  reasoningHistory?: ReasoningHistory
  emptyRows?: EmptyRows
  unended?: Unended
  specialTokensInContent?: SpecialTokensInContent
  encoding?: string
  stripLabels?: boolean
  /** True to treat rows of prompt and completion as raw text. */
  raw?: boolean
  rows?: number
  row?: number
}

/** Rows to inspect, and how they are read. */
export interface Rows {
  path: string | readonly string[]
  form: DatasetForm
  /** Without a model, rows are counted but not tokenized. */
  tokens?: RowTokens
  /** Number of rows to show. */
  rows?: number | undefined
  /** The only row to show, from 1. */
  row?: number | undefined
  /** True for training by rewards, which expects the answers in the rows, and does not train on them. */
  rewarded?: boolean
}

/** A model by name, and how its tokenizer reads rows. */
export interface RowTokens {
  model: string
  revision?: string | null
  encoding: EncodeRowOptions
}

type DatasetFacts = Extract<Printed<'inspect'>, { kind: 'dataset' }>
type TokenFacts = Pick<
  DatasetFacts,
  | 'tokens'
  | 'histogram'
  | 'supervised_tokens'
  | 'dropped'
  | 'truncated'
  | 'truncated_tokens'
  | 'empty_turns'
  | 'special_tokens'
  | 'lost_reasoning'
  | 'examples'
>

export async function inspectDataset(
  path: string,
  options: DatasetInspection,
  output: Output,
): Promise<Inspection> {
  const { model, format = 'auto', fileType = 'auto', columns = {}, rows, row } = options
  const { encoding = 'auto', stripLabels = false } = options
  const tokens = model === undefined ? {} : { tokens: { model, encoding: encodingOf(options) } }
  const form = { format, fileType, columns, encoding, stripLabels }
  return inspectRows({ path, form, ...tokens, rows, row }, output)
}

export async function inspectRows(rows: Rows, output: Output): Promise<Inspection> {
  const data = await readFacts(rows, output)
  return { data, text: () => describe(data, rows, output) }
}

/** How the flags have rows tokenized. */
function encodingOf(options: DatasetInspection): EncodeRowOptions {
  const {
    maxSeqLength = NO_LIMIT,
    trainOn,
    reasoningHistory,
    emptyRows,
    unended,
    specialTokensInContent,
    raw,
  } = options
  return {
    maxSeqLength,
    ...(trainOn === undefined ? {} : { trainOn }),
    ...(reasoningHistory === undefined ? {} : { reasoningHistory }),
    ...(emptyRows === undefined ? {} : { emptyRows }),
    ...(unended === undefined ? {} : { unended }),
    ...(specialTokensInContent === undefined ? {} : { specialTokensInContent }),
    prompting: { prompts: !raw, instructions: !raw },
  }
}

async function readFacts(asked: Rows, output: Output): Promise<DatasetFacts> {
  const { path, form, tokens } = asked
  const survey = tokens && new TokenSurvey(asked, tokens, await tokenizerOf(tokens, output))
  const duplicates = new Duplicates()
  const rowSurvey = new RowSurvey(form.stripLabels)
  const reading = new StatusLine(output, 'Reading')
  reading.update('')
  let found: Detected | undefined
  let rows = 0
  try {
    for await (const row of openDataset(path, {
      ...form,
      stdin: process.stdin,
      onDetected: (detected) => {
        found = detected
      },
    })) {
      rows++
      duplicates.add(row)
      rowSurvey.add(row)
      await survey?.add(row, rows)
      if (rows % PROGRESS_ROWS === 0) reading.update(`${formatCount(rows)} rows`)
    }
    await survey?.encode()
  } finally {
    reading.clear()
    await survey?.close()
  }
  if (found === undefined) checkLearnable(path, emptyStats(), { maxSeqLength: NO_LIMIT })
  if (asked.row !== undefined && asked.row > rows)
    throw new ConfigError(`--row ${asked.row}: ${inputName(path)} has ${formatCount(rows)} rows.`, { rows })
  const { findings } = rowSurvey
  return {
    kind: 'dataset',
    path: [path].flat().join(', '),
    format: (found as unknown as Detected).format,
    rows,
    duplicates: { rows: duplicates.rows, prompts: duplicates.prompts },
    ...(findings.classes.length === 0 ? {} : { classes: findings.classes }),
    ...survey?.facts(),
    remarks: datasetRemarks(
      found,
      { ...(survey?.stats ?? emptyStats()), ...findings },
      tokens?.encoding ?? {},
    ),
  }
}

async function tokenizerOf({ model, revision }: RowTokens, output: Output): Promise<WorkerTokenizer> {
  const { path } = await locateShown('tokenizer', model, output, { revision })
  return WorkerTokenizer.open(await tokenizerAt(path))
}

/** The tokenizer can be read without the model's weights. If there is no model, its reader reports the error. */
async function tokenizerAt(path: string): Promise<TokenizerOfModel> {
  return existsSync(join(path, 'tokenizer.json')) ? { kind: 'folder', path } : openModelFiles(path)
}

/** Token statistics over all rows. */
class TokenSurvey {
  readonly #asked: Rows
  readonly #encoding: EncodeRowOptions
  readonly #tokenizer: WorkerTokenizer
  readonly #waiting: { row: DatasetRow; number: number }[] = []
  readonly #dropped: Record<DropReason, number> = { nothing_to_learn: 0, truncated_away: 0 }
  readonly #examples: NonNullable<TokenFacts['examples']> = []
  /** Numbers of the rows shown, where a row has several examples. */
  readonly #shown = new Set<number>()
  readonly #stats = emptyStats()
  readonly #lengths: number[] = []
  #cutTokens = 0

  constructor(asked: Rows, { encoding }: RowTokens, tokenizer: WorkerTokenizer) {
    this.#asked = asked
    this.#encoding = encoding
    this.#tokenizer = tokenizer
  }

  get stats(): DatasetStats {
    return this.#stats
  }

  /** @param number row number, from 1 */
  async add(row: DatasetRow, number: number): Promise<void> {
    this.#waiting.push({ row, number })
    if (this.#waiting.length === ROWS_AT_ONCE) await this.encode()
  }

  /** Encodes the waiting rows. */
  async encode(): Promise<void> {
    const rows = this.#waiting.splice(0)
    if (rows.length === 0) return
    const encoded = await this.#tokenizer.encodeRows(
      rows.map(({ row }) => row),
      this.#encoding,
    )
    for (const [i, { row, number }] of rows.entries()) await this.#count(row, number, encoded[i] ?? [])
  }

  close(): Promise<void> {
    return this.#tokenizer.close()
  }

  async #count(row: DatasetRow, number: number, examples: (EncodedRow | DropReason)[]): Promise<void> {
    this.#stats.rows++
    let length = 0
    for (const encoded of examples) {
      if (typeof encoded === 'string') {
        this.#dropped[encoded]++
        this.#stats.dropped++
        if (encoded === 'truncated_away') this.#stats.droppedByTruncation++
        continue
      }
      this.#stats.examples++
      this.#stats.supervisedTokens += encoded.supervised
      this.#stats.ended += encoded.ended ? 1 : 0
      countFound(this.#stats, encoded)
      if (encoded.truncated) this.#stats.truncated++
      this.#cutTokens += encoded.fullLength - encoded.inputIds.length
      length += encoded.fullLength
      if (this.#isShown(number))
        this.#examples.push({
          path: row.path,
          line: row.line,
          ...(row.unit ? { unit: row.unit } : {}),
          parts: await this.#partsOf(encoded),
        })
    }
    if (length > 0) this.#lengths.push(length)
  }

  /** The answers of a pair are shown one below the other, and the class of a text below it. */
  async #partsOf(encoded: EncodedRow): Promise<Part[]> {
    const { inputIds, labels, split, target } = encoded
    const label = target === undefined ? undefined : this.#encoding.labels?.[target]
    if (label !== undefined)
      return [...(await partsOf(encoded, this.#tokenizer)), BREAK, { text: label, trained: true }]
    const pieces = split === undefined ? [[0]] : [[0, split], [split]]
    const parts = await Promise.all(
      pieces.map(([from, to]) =>
        partsOf({ inputIds: inputIds.slice(from, to), labels: labels.slice(from, to) }, this.#tokenizer),
      ),
    )
    return parts.flatMap((part, i) => (i === 0 ? part : [BREAK, ...part]))
  }

  #isShown(number: number): boolean {
    const { row, rows = SHOWN_ROWS } = this.#asked
    if (row !== undefined) return number === row
    if (this.#encoding.reasoningHistory !== 'drop') return this.#examples.length < rows
    // The answers of a chat are shown together.
    if (this.#shown.size < rows) this.#shown.add(number)
    return this.#shown.has(number)
  }

  /** @throws {DataError} when no row has trained tokens, or no row trains the end of an answer */
  facts(): TokenFacts {
    checkLearnable(this.#asked.path, this.#stats, this.#encoding)
    const lengths = Uint32Array.from(this.#lengths)
    const tokens = lengthsOf(lengths)
    return {
      tokens,
      histogram: lengthBars(lengths, tokens),
      supervised_tokens: this.#stats.supervisedTokens,
      dropped: this.#dropped,
      truncated: this.#stats.truncated,
      truncated_tokens: this.#cutTokens,
      empty_turns: this.#stats.emptyTurns,
      special_tokens: this.#stats.specialTokens,
      lost_reasoning: this.#stats.lostReasoning,
      examples: this.#examples,
    }
  }
}

function describe(found: DatasetFacts, asked: Rows, output: Output): string {
  const { tokens, histogram = [], dropped, examples = [], duplicates, path } = found
  const classes = hasClasses(found.format)
  const role = asked.rewarded ? 'expected' : 'trained on'
  const several = new Set(examples.map((example) => example.path)).size > 1
  const at = (place: Place) => (place.path === path ? '' : `${place.path}, `) + placeName(place)
  const repeats = ({ rows, examples: [first] }: Repeats) =>
    first ? `${countRows(rows)}, the first one ${at(first)}, as ${at(first.first)}` : 'none'
  const lines = facts([
    ['dataset', inputName([asked.path].flat().map(shortPath))],
    ['format', found.format],
    ['rows', formatCount(found.rows)],
    [classes ? 'classes' : 'different completions', found.classes && classesText(found.classes)],
    ['duplicates', repeats(duplicates.rows)],
    ['same prompt, other answer', isAsked(found.format) ? repeats(duplicates.prompts) : undefined],
    ['tokens', tokens && formatCount(tokens.total)],
    [
      'tokens of a row',
      tokens &&
        `${tokens.min} to ${tokens.max}; median ${tokens.median}, mean ${tokens.mean.toFixed(1)}, 95 % have at most ${tokens.p95}`,
    ],
    [role, tokens && `${formatCount(found.supervised_tokens ?? 0)} ${classes ? 'labels' : 'tokens'}`],
    [
      'cut',
      found.truncated
        ? `${countRows(found.truncated)}, which lose ${formatCount(found.truncated_tokens ?? 0)} tokens`
        : undefined,
    ],
    [
      'empty assistant turns',
      found.empty_turns ? `${formatCount(found.empty_turns)}, which are not trained on` : undefined,
    ],
    ['special tokens in the text', specialFact(found, asked.tokens?.encoding ?? {}, at)],
    [
      'reasoning not rendered',
      found.lost_reasoning?.first &&
        `in ${countRows(found.lost_reasoning.rows)}, the first one in ${at(found.lost_reasoning.first)}`,
    ],
    [
      'nothing to train on',
      dropped?.nothing_to_learn ? `${countRows(dropped.nothing_to_learn)} left out` : undefined,
    ],
    [
      'cut before what is trained on',
      dropped?.truncated_away ? `${countRows(dropped.truncated_away)} left out` : undefined,
    ],
  ])
  const bars = () => barChart(histogram, columnsOf(output.stdout))
  const chart = histogram.length > 1 ? [`\nRows by number of tokens:\n${bars()}`] : []
  const key = `${output.colors ? output.styled('green', 'green') : '[[…]]'} is ${role}`
  const shown = examples.map(
    (example) =>
      `\n${several ? at(example) : capital(placeName(example))}; ${key}:\n${markedText(example.parts, output, asked.row !== undefined)}`,
  )
  const remarks = found.remarks.map((remark) => `\nnote: ${remark}.`)
  return [lines, ...chart, ...shown, ...remarks].join('\n')
}

function specialFact(
  { special_tokens: found }: DatasetFacts,
  { specialTokensInContent }: Pick<EncodeRowOptions, 'specialTokensInContent'>,
  at: (place: Place) => string,
): string | undefined {
  if (!found?.first) return undefined
  const escaped = specialTokensInContent === 'escape' ? '; they are escaped' : ''
  return `in ${countRows(found.rows)}, the first one ${visible(found.first.token)} in ${at(found.first)}${escaped}`
}

const capital = (text: string) => text[0]?.toUpperCase() + text.slice(1)

const countRows = (rows: number) => (rows === 1 ? '1 row' : `${formatCount(rows)} rows`)
