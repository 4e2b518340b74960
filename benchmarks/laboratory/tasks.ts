/**
 * Classification tasks with a few labels, whose rows belong to clients: six generated ones, and SST-2 from its files.
 */

import { counterUniform } from '../../lib/core/counter-random.js'
import { DataError } from '../../lib/core/errors.js'
import { openDataset } from '../../lib/data/dataset.js'
import type { Answer } from '../../lib/train/answers/score.js'

/** Domain of a task; each is shared by at least two tasks. */
export type Domain = 'opinions' | 'customer service' | 'health'

export interface Task {
  name: string
  domain: Domain
  /** The question, in a sentence. */
  about: string
  /** Completions to choose from. */
  labels: readonly string[]
  /** Maximum tokens per row, even with the small vocabulary of the demo's model. */
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

/** Enough tokens for a line or two. */
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
  ' returns': ['is the wrong size', 'is not what I wanted', 'should go back', 'came in the wrong color'],
}

const INTENTS: Readonly<Record<string, readonly string[]>> = {
  ' card': ['does not work', 'was swallowed', 'has run out', 'was stolen'],
  ' transfer': ['did not arrive', 'went to another name', 'is not booked', 'was sent twice'],
  ' loan': ['has a high rate', 'should end sooner', 'needs a new term', 'was not granted'],
  ' login': ['asks for a code', 'is locked', 'wants a new word', 'was seen abroad'],
}
const WARDS: Readonly<Record<string, readonly string[]>> = {
  ' heart': ['a racing pulse', 'a tight chest', 'a slow pulse', 'pain in the left arm'],
  ' bones': ['a swollen knee', 'a broken wrist', 'a stiff back', 'a turned ankle'],
  ' skin': ['a red spot', 'an itching hand', 'a dry face', 'a burned finger'],
  ' eyes': ['blurred sight', 'a red lid', 'double sight', 'pain from light'],
}
const GRAVE = ['a tight chest', 'a deep cut', 'a numb face', 'hard breathing', 'a bad burn']
const SLIGHT = ['a dry cough', 'a small cut', 'a cold', 'a sore heel', 'a stiff neck']
const SIDES = ['service', 'price', 'place', 'start', 'end', 'sound', 'taste', 'look']

/** Reviews: was a thing liked, where a "not" inverts the meaning? Each client writes about two things. */
export function reviews(size: TaskSize, seed: number): Task {
  return made(
    'reviews',
    'opinions',
    'Was it liked, where "not" turns a word around?',
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

/** Complaints: which of four teams is responsible? Each client makes two kinds of complaints. */
export function complaints(size: TaskSize, seed: number): Task {
  const teams = Object.keys(TEAMS)
  return made(
    'complaints',
    'customer service',
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

/** Ratings: are two aspects of a thing both good, both bad, or mixed? */
export function ratings(size: TaskSize, seed: number): Task {
  const about = 'Are two remarks good, bad, or one of each?'
  return made('ratings', 'opinions', about, [' good', ' mixed', ' bad'], size, seed, (draw, client) => {
    const thing =
      client === null ? pick(THINGS, draw) : (THINGS[(client * 5 + draw(2)) % THINGS.length] as string)
    const [first, second] = [draw(2) === 0, draw(2) === 0]
    const said = (good: boolean) => `${pick(SIDES, draw)} ${pick(good ? GOOD : BAD, draw)}`
    return {
      prompt: `The ${thing}: ${said(first)}, ${said(second)}. Rating:`,
      completion: first === second ? (first ? ' good' : ' bad') : ' mixed',
    }
  })
}

/** Intents of messages to a bank. Each client writes about two kinds of things. */
export function banking(size: TaskSize, seed: number): Task {
  const about = 'Which of four intents does a message to a bank have?'
  const intents = Object.keys(INTENTS)
  return made('banking', 'customer service', about, intents, size, seed, (draw, client) => {
    const intent =
      client === null ? pick(intents, draw) : (intents[(client + draw(2)) % intents.length] as string)
    const when = pick(['today', 'since Monday', 'again', 'for a week', 'since the move'], draw)
    return {
      prompt: `My bank: it ${pick(INTENTS[intent] as string[], draw)} ${when}. Intent:`,
      completion: intent,
    }
  })
}

/**
 * Wards: to which of four wards does a note send a patient? Clients are medical practices with two kinds of patients
 * each.
 */
export function wards(size: TaskSize, seed: number): Task {
  const about = 'Which of four wards does a note send a patient to?'
  const names = Object.keys(WARDS)
  return made('wards', 'health', about, names, size, seed, (draw, client) => {
    const ward = client === null ? pick(names, draw) : (names[(client + draw(2)) % names.length] as string)
    const prompt = `Patient of ${20 + draw(60)}: ${pick(WARDS[ward] as string[], draw)}. Ward:`
    return { prompt, completion: ward }
  })
}

/** Triage: how soon is a patient seen, given the complaint and whether it is getting worse? */
export function triage(size: TaskSize, seed: number): Task {
  const about = 'Is a patient seen now, today, or later, by the complaint and its course?'
  return made('triage', 'health', about, [' now', ' today', ' later'], size, seed, (draw, client) => {
    // Some clients see severe cases more often.
    const grave = draw(client === null ? 2 : 2 + (client % 3)) === 0
    const growing = draw(2) === 0
    const prompt = `Patient of ${20 + draw(60)}: ${pick(grave ? GRAVE : SLIGHT, draw)}, ${growing ? 'worse' : 'better'} since ${pick(['noon', 'Monday', 'morning'], draw)}. Seen:`
    return { prompt, completion: grave ? (growing ? ' now' : ' today') : growing ? ' today' : ' later' }
  })
}

function made(
  name: string,
  domain: Domain,
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
  return { name, domain, about, labels, maxSeqLength: SHORT_ROWS, train, test }
}

function pick<T>(values: readonly T[], draw: Draw): T {
  return values[draw(values.length)] as T
}

/** The generated tasks: two per domain. */
export const TASKS: Readonly<Record<string, (size: TaskSize, seed: number) => Task>> = {
  reviews,
  complaints,
  wards,
  ratings,
  banking,
  triage,
}

/**
 * SST-2 from a folder with train.tsv and dev.tsv, each line a sentence, a tab, and 1 for praise or 0. Sentences are
 * distributed among clients, most of whom prefer one of the two.
 * @throws {DataError} for any other label
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
    // 80% of the positive rows go to the first half of the clients, 80% of the others to the second half.
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
  return {
    name: 'sst2',
    domain: 'opinions',
    about,
    labels,
    maxSeqLength: 256,
    train,
    test: await read('dev.tsv', testRows),
  }
}
