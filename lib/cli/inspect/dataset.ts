/** What is in a dataset: its form and rows; with a model, its tokens and which of them are learnt. */
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { DataError } from '../../errors.js'
import { type DatasetFormat, type DatasetRow, openDataset } from '../../files/dataset.js'
import { type DropReason, type EncodedRow, IGNORE, RowEncoder, type TrainOn } from '../../files/encode.js'
import { openModelFiles } from '../../files/model-files.js'
import type { Tokenizer } from '../../files/tokenizer.js'
import { readTokenizerSource, type TokenizerOfModel } from '../../files/tokenizer-source.js'
import { locateShown } from '../download.js'
import { facts, formatCount } from '../format.js'
import type { Inspection } from '../inspect.js'
import type { Output } from '../output.js'
import type { Printed } from '../schemas.js'

/** Rows that are shown. */
const EXAMPLES = 2
const NO_LIMIT = 2 ** 31 - 1

export interface DatasetInspection {
  format?: DatasetFormat | 'auto'
  model?: string
  maxSeqLength?: number
  trainOn?: TrainOn
}

type DatasetFacts = Omit<Extract<Printed<'inspect'>, { kind: 'dataset' }>, 'kind' | 'path'>
/** What a model sees in it. */
type TokenFacts = Required<Omit<DatasetFacts, 'format' | 'rows'>>
/** A piece of an example as the model sees it; the loss counts the trained ones. */
type Part = TokenFacts['examples'][0]['parts'][0]

export async function inspectDataset(
  path: string,
  options: DatasetInspection,
  output: Output,
): Promise<Inspection> {
  const found = await readFacts(path, options, output)
  const data = { kind: 'dataset' as const, path, ...found }
  return { data, text: () => describe(path, found, output) }
}

async function readFacts(path: string, options: DatasetInspection, output: Output): Promise<DatasetFacts> {
  const counter =
    options.model === undefined ? undefined : new TokenCounter(await encoderFor(options, output))
  let format: DatasetFormat | undefined
  let rows = 0
  for await (const row of openDataset(path, { format: options.format ?? 'auto' })) {
    format = row.format
    rows++
    counter?.add(row)
  }
  if (format === undefined)
    throw new DataError(`${path} is empty: expected one JSON object per line`, { path })
  return { format, rows, ...counter?.facts() }
}

async function encoderFor(
  { model, maxSeqLength, trainOn }: DatasetInspection,
  output: Output,
): Promise<RowEncoder> {
  const { path } = await locateShown('tokenizer', model as string, output)
  const source = await readTokenizerSource(await tokenizerAt(path))
  return new RowEncoder(source, {
    maxSeqLength: maxSeqLength ?? NO_LIMIT,
    trainOn: trainOn ?? 'completions',
  })
}

/** A model's tokenizer needs nothing of its weights; what is no model at all is said by the reader of models. */
async function tokenizerAt(path: string): Promise<TokenizerOfModel> {
  return existsSync(join(path, 'tokenizer.json')) ? { kind: 'folder', path } : openModelFiles(path)
}

class TokenCounter {
  readonly #encoder: RowEncoder
  readonly #dropped: Record<DropReason, number> = { nothing_to_learn: 0, truncated_away: 0 }
  readonly #examples: TokenFacts['examples'] = []
  #rows = 0
  #total = 0
  #min = Number.POSITIVE_INFINITY
  #max = 0
  #supervised = 0
  #truncated = 0

  constructor(encoder: RowEncoder) {
    this.#encoder = encoder
  }

  add(row: DatasetRow): void {
    const encoded = this.#encoder.encode(row)
    if (typeof encoded === 'string') {
      this.#dropped[encoded]++
      return
    }
    const { length } = encoded.inputIds
    this.#rows++
    this.#total += length
    this.#min = Math.min(this.#min, length)
    this.#max = Math.max(this.#max, length)
    this.#supervised += encoded.supervised
    if (encoded.truncated) this.#truncated++
    if (this.#examples.length < EXAMPLES)
      this.#examples.push({ line: row.line, parts: partsOf(encoded, this.#encoder.tokenizer) })
  }

  facts(): TokenFacts {
    const some = this.#rows > 0
    return {
      tokens: {
        total: this.#total,
        min: some ? this.#min : 0,
        mean: some ? this.#total / this.#rows : 0,
        max: this.#max,
      },
      supervised_tokens: this.#supervised,
      dropped: this.#dropped,
      truncated: this.#truncated,
      examples: this.#examples,
    }
  }
}

function partsOf({ inputIds, labels }: EncodedRow, tokenizer: Tokenizer): Part[] {
  const stream = tokenizer.decodeStream({ skipSpecialTokens: false })
  const parts: Part[] = []
  for (const [i, id] of inputIds.entries()) {
    const trained = i > 0 && labels[i] !== IGNORE
    const last = parts.at(-1)
    const text = stream.push(id)
    if (last?.trained === trained) last.text += text
    else parts.push({ text, trained })
  }
  const last = parts.at(-1)
  if (last) last.text += stream.end()
  return parts
}

function describe(path: string, found: DatasetFacts, output: Output): string {
  const { tokens, dropped, examples = [] } = found
  const lines = facts([
    ['dataset', path],
    ['format', found.format],
    ['rows', formatCount(found.rows)],
    [
      'tokens',
      tokens &&
        `${formatCount(tokens.total)}; a row has ${tokens.min} to ${tokens.max}, ${tokens.mean.toFixed(1)} in the mean`,
    ],
    ['learnt', tokens && `${formatCount(found.supervised_tokens ?? 0)} tokens`],
    ['cut', found.truncated ? `${formatCount(found.truncated)} rows` : undefined],
    [
      'nothing to learn',
      dropped?.nothing_to_learn ? `${formatCount(dropped.nothing_to_learn)} rows` : undefined,
    ],
    ['cut before what is learnt', dropped?.truncated_away ? `${dropped.truncated_away} rows` : undefined],
  ])
  const shown = examples.map(
    ({ line, parts }) => `\nLine ${line}; [[…]] is learnt:\n${markedText(parts, output)}`,
  )
  return [lines, ...shown].join('\n')
}

function markedText(parts: readonly Part[], output: Output): string {
  return parts
    .map(({ text, trained }) => (trained ? output.styled('green', `[[${visible(text)}]]`) : visible(text)))
    .join('')
}

/** Data must not steer the terminal: control characters other than line feed and tab are spelled out. */
function visible(text: string): string {
  return text.replace(/[\p{Cc}\p{Cf}]/gu, (character) =>
    character === '\n' || character === '\t'
      ? character
      : `\\u{${(character.codePointAt(0) as number).toString(16)}}`,
  )
}
