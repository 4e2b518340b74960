/** Tasks of a few answers each, whose rows belong to clients: two that are made up, and SST-2 from its files. */

import { counterUniform } from '../core/counter-random.js'
import { DataError } from '../core/errors.js'
import { openDataset } from '../data/dataset.js'
import type { Answer } from '../train/score.js'

export interface Task {
  name: string
  /** The question, in a sentence. */
  about: string
  /** Completions that an answer is chosen from. */
  labels: readonly string[]
  /** Tokens that no row exceeds, with the small vocabulary of the demo's model either. */
  maxSeqLength: number
  train: readonly (Answer & { user: string })[]
  test: readonly Answer[]
}

/** Size of a generated task. */
export interface TaskSize {
  clients: number
  rowsPerClient: number
  testRows: number
}

/** Tokens of a line or two. */
export const SHORT_ROWS = 96

type Draw = (count: number) => number

const GOOD = ['great', 'fresh', 'warm', 'quick', 'clean', 'bright', 'kind', 'good', 'fine', 'lovely']
const BAD = ['slow', 'cold', 'broken', 'late', 'dirty', 'rude', 'bad', 'poor', 'dark', 'old']
const THINGS = [
  'soup',
  'room',
  'train',
  'shop',
  'film',
  'book',
  'lamp',
  'phone',
  'garden',
  'bread',
  'hotel',
  'chair',
]
const TEAMS: Readonly<Record<string, readonly string[]>> = {
  ' billing': ['was charged twice', 'has a wrong price', 'needs a receipt', 'was not refunded'],
  ' delivery': ['has not arrived', 'went to the wrong house', 'is late again', 'was left outside'],
  ' repairs': ['does not start', 'makes a loud noise', 'has a broken part', 'is too hot'],
  ' returns': ['is the wrong size', 'is not what I wanted', 'should go back', 'came in the wrong colour'],
}

/** Reviews: was a thing liked, where a "not" inverts the word? Clients write about two things each. */
export function reviews(size: TaskSize, seed: number): Task {
  return made(
    'reviews',
    'Was it liked, where "not" turns a word round?',
    [' yes', ' no'],
    size,
    seed,
    (draw, client) => {
      const thing =
        client === null ? pick(THINGS, draw) : (THINGS[(client * 5 + draw(2)) % THINGS.length] as string)
      const [good, negated] = [draw(2) === 0, draw(3) === 0]
      const word = pick(good ? GOOD : BAD, draw)
      return {
        prompt: `The ${thing} was ${negated ? 'not ' : ''}${word}. Liked:`,
        completion: good !== negated ? ' yes' : ' no',
      }
    },
  )
}

/** Complaints: which of four teams is responsible? Clients complain of two kinds of things each. */
export function complaints(size: TaskSize, seed: number): Task {
  const teams = Object.keys(TEAMS)
  return made(
    'complaints',
    'Which of four teams does a complaint go to?',
    teams,
    size,
    seed,
    (draw, client) => {
      const team = client === null ? pick(teams, draw) : (teams[(client + draw(2)) % teams.length] as string)
      return {
        prompt: `My ${pick(THINGS, draw)} ${pick(TEAMS[team] as string[], draw)}. Team:`,
        completion: team,
      }
    },
  )
}

function made(
  name: string,
  about: string,
  labels: readonly string[],
  { clients, rowsPerClient, testRows }: TaskSize,
  seed: number,
  row: (draw: Draw, client: number | null) => Answer,
): Task {
  let index = 0
  const draw: Draw = (count) => Math.floor(counterUniform(seed, name, index++) * count)
  const train = Array.from({ length: clients }, (_, client) =>
    Array.from({ length: rowsPerClient }, () => ({ ...row(draw, client), user: `client ${client}` })),
  ).flat()
  const test = Array.from({ length: testRows }, () => row(draw, null))
  return { name, about, labels, maxSeqLength: SHORT_ROWS, train, test }
}

function pick<T>(values: readonly T[], draw: Draw): T {
  return values[draw(values.length)] as T
}

/**
 * SST-2 from a folder with train.tsv and dev.tsv, each line a sentence, a tab, and 1 for praise or 0; its sentences are
 * dealt out to clients, most of whom prefer one of the two.
 * @throws {DataError} for a label that is neither
 */
export async function sst2(
  folder: string,
  { clients, rowsPerClient, testRows }: TaskSize,
  seed: number,
): Promise<Task> {
  const labels = [' negative', ' positive']
  const read = async (file: string, limit: number) => {
    const rows: Answer[] = []
    const form = { fileType: 'tsv', header: false, columns: { prompt: '1', completion: '2' } } as const
    for await (const row of openDataset(`${folder}/${file}`, { ...form, format: 'prompt_completion' })) {
      if (rows.length === limit) break
      if (row.format !== 'prompt_completion') continue
      const label = labels[Number(row.completion.trim())]
      if (label === undefined)
        throw new DataError(
          `${folder}/${file}, line ${row.line}: the label is ${row.completion}, expected 0 or 1`,
          {
            path: row.path,
            line: row.line,
          },
        )
      rows.push({ prompt: `Review: ${row.prompt.trim()}\nSentiment:`, completion: label })
    }
    return rows
  }
  const rows = await read('train.tsv', Number.POSITIVE_INFINITY)
  const owners = rows.map(({ completion }, index) => {
    // Four of five clients of the first half praise, of the second half the others.
    const leans = counterUniform(seed, 'sst2 leaning', index) < 0.8
    const half = (completion === ' positive') === leans ? 0 : 0.5
    return Math.floor((half + counterUniform(seed, 'sst2 owner', index) / 2) * clients)
  })
  const held = new Map<number, number>()
  const train = rows.flatMap((row, index) => {
    const owner = owners[index] as number
    const count = held.get(owner) ?? 0
    held.set(owner, count + 1)
    return count < rowsPerClient ? [{ ...row, user: `client ${owner}` }] : []
  })
  const about = 'Does a sentence of a film review praise the film? (SST-2)'
  return { name: 'sst2', about, labels, maxSeqLength: 256, train, test: await read('dev.tsv', testRows) }
}
