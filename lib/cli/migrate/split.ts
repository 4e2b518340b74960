/**
 * Splits fine-tuning data into rows to train on and rows to be asked. Repeated rows are left out, and no row that is asked
 * shares its prompt with a trained answer. The same rows and seed give the same split in any order of the rows.
 */
import { createHash } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import { ConfigError } from '../../core/errors.js'
import { isRecord } from '../../core/schema-shape.js'
import { type DatasetForm, type DatasetRow, openDataset, rawRows } from '../../data/dataset.js'
import { noRows } from '../../data/encode-dataset.js'
import { recognized } from '../../data/forms/index.js'
import { pythonJson } from '../../tokenizer/python-text.js'
import {
  type GradedQuestion,
  gradedQuestionOf,
  questionOf,
  type RowQuestion,
  trainedPrompts,
} from './question.js'

/** A held-out row. */
export interface HeldOutRow extends RowQuestion {
  /** Its number among the rows of the data, from 1. */
  row: number
  /** With a grader, what it sees of the row. */
  item?: GradedQuestion['item']
}

export interface Split {
  /** Rows of the data. */
  rows: number
  /** Rows that repeat an earlier one, which are left out. */
  repeated: number
  /** Lines of the data to train on, from 1, in order. */
  train: number[]
  heldOutLines: number[]
  /** In the order of their lines. */
  heldOut: HeldOutRow[]
}

export interface SplitOptions {
  seed: number
  /** Most rows to hold out. Default: a fifth of the distinct rows, at most 100. */
  count?: number
  /** True for prompts whose answers a grader scores. Default false. */
  graded?: boolean
}

/** A row, as its hashes. */
interface Hashed {
  row: number
  line: number
  question: RowQuestion | undefined
  /** One for each answer that is trained on, of the prompt before it; the last one is the question of the row. */
  prompts: string[]
}

const MOST_HELD_OUT = 100

/**
 * @throws {DataError} for a row that cannot be migrated, naming it
 * @throws {ConfigError} when no row can be held out, or none would be left
 */
export async function splitFile(path: string, { seed, count, graded = false }: SplitOptions): Promise<Split> {
  const seen = new Set<string>()
  const kept: Hashed[] = []
  let rows = 0
  for await (const row of openDataset(path, { ...(await formOf(path)), asPrompts: graded })) {
    rows++
    const { path: _, line, ...content } = row
    const question = graded ? gradedQuestionOf(row) : questionOf(row)
    const prompts = promptsOf(row, question, graded).map(hashOf)
    const hash = hashOf(content)
    if (seen.has(hash)) continue
    seen.add(hash)
    kept.push({ row: rows, line, question, prompts })
  }
  if (kept.length === 0) throw noRows(path)
  const wanted = count ?? Math.min(MOST_HELD_OUT, Math.max(1, Math.round(kept.length / 5)))
  const chosen = chosenRows(kept, seed, wanted)
  if (chosen.size === 0 || chosen.size === kept.length)
    throw new ConfigError(
      `${path} has ${rows} rows with too few different prompts to hold any out beside rows to train on; add rows, or lower --held-out.`,
      { path, rows, held_out: wanted },
    )
  const held = kept.filter((row) => chosen.has(row))
  return {
    ...{ rows, repeated: rows - kept.length },
    train: kept.filter((row) => !chosen.has(row)).map(({ line }) => line),
    heldOutLines: held.map(({ line }) => line),
    heldOut: held.map(({ row, question }) => ({ row, ...(question as RowQuestion) })),
  }
}

/** The questions whose answers a row trains, the row's own question last. */
function promptsOf(row: DatasetRow, question: RowQuestion | undefined, graded: boolean): unknown[] {
  return graded
    ? [question === undefined ? row : [question.prompt, question.tools ?? null]]
    : trainedPrompts(row)
}

/** How rows are read; those of preferences have to be asked for. */
async function formOf(path: string): Promise<DatasetForm> {
  for await (const { value } of rawRows(path, { fileType: 'jsonl' })) {
    const form = isRecord(value) ? recognized(value) : undefined
    return { fileType: 'jsonl', ...(form === undefined ? {} : { format: form.name }) }
  }
  return { fileType: 'jsonl' }
}

/** Whole groups, in an order that their prompts and the seed decide, until they have this many rows. */
function chosenRows(rows: readonly Hashed[], seed: number, count: number): Set<Hashed> {
  const groups = groupsOf(rows)
    .filter((group) => group.every(({ question }) => question !== undefined))
    .map((group) => ({ group, key: hashOf([seed, ...group.flatMap(({ prompts }) => prompts).sort()]) }))
    .sort((a, b) => (a.key < b.key ? -1 : 1))
  const chosen = new Set<Hashed>()
  for (const { group } of groups)
    if (chosen.size + group.length <= Math.min(count, rows.length - 1))
      for (const row of group) chosen.add(row)
  return chosen
}

/** Rows of which one asks for what another trains on are of one group. */
function groupsOf(rows: readonly Hashed[]): Hashed[][] {
  const parents = rows.map((_, index) => index)
  const rootOf = (index: number): number => {
    let root = index
    while (parents[root] !== root) root = parents[root] as number
    parents[index] = root
    return root
  }
  const asking = new Map<string, number>()
  for (const [index, { prompts }] of rows.entries()) {
    const asked = prompts.at(-1) as string
    const first = asking.get(asked)
    if (first === undefined) asking.set(asked, index)
    else parents[rootOf(index)] = rootOf(first)
  }
  for (const [index, { prompts }] of rows.entries())
    for (const prompt of prompts) {
      const other = asking.get(prompt)
      if (other !== undefined) parents[rootOf(index)] = rootOf(other)
    }
  const groups = new Map<number, Hashed[]>()
  for (const [index, row] of rows.entries()) {
    const root = rootOf(index)
    groups.set(root, [...(groups.get(root) ?? []), row])
  }
  return [...groups.values()]
}

function hashOf(value: unknown): string {
  return createHash('sha256').update(pythonJson(value)).digest('hex').slice(0, 32)
}

/** The text of these lines of a file, each with a line break. @param lines from 1, in order */
export async function linesOf(path: string, lines: readonly number[]): Promise<Buffer> {
  const bytes = await readFile(path)
  const wanted = new Set(lines)
  const parts: Buffer[] = []
  let start = bytes.subarray(0, 3).equals(BYTE_ORDER_MARK) ? 3 : 0
  for (let line = 1; start < bytes.length; line++) {
    const at = bytes.indexOf(LINE_BREAK, start)
    const end = at < 0 ? bytes.length : at
    if (wanted.has(line)) parts.push(bytes.subarray(start, end), Buffer.from([LINE_BREAK]))
    start = end + 1
  }
  return Buffer.concat(parts)
}

const LINE_BREAK = 0x0a
const BYTE_ORDER_MARK = Buffer.from([0xef, 0xbb, 0xbf])
