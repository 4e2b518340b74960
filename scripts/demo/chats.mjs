/**
 * Questions for the base model in the second part of its training: chats about a record, of which only the answers are
 * trained on. Nearly all of an answer is in the question, so there is little to guess and much to copy.
 */
import { FORMS, question, sentence } from './forms.mjs'
import { isHeldOut, PEOPLE, TOWNS } from './names.mjs'
import {
  counted,
  isoDate,
  JOBS,
  KINDS,
  MATERIALS,
  MONTHS,
  NUMBERS,
  Random,
  THINGS,
  writtenDate,
} from './world.mjs'

/** Requests for a form. */
export const REQUESTS = {
  list: ['Write this as a list.', 'Make a list of this.', 'As a list, please.', 'Put this in a list.'],
  card: ['Write this as a card.', 'Fill in a card.', 'As a card, please.', 'Make a card of this.'],
  json: ['Write this as JSON.', 'Make a JSON object.', 'As JSON, please.', 'Turn this into JSON.'],
  csv: ['Write this as CSV.', 'Make a table of this.', 'As CSV, please.', 'Turn this into CSV.'],
  letter: ['Write a letter.', 'Say this in a letter.', 'As a letter, please.', 'Turn this into a letter.'],
  sentence: ['Say this in a sentence.', 'Write this as a sentence.', 'In one sentence, please.'],
}

/** Things that chats are about; their plurals add an s. */
const GOODS = THINGS.slice(0, 40)

/**
 * A record of people, places and things with short names.
 * @param pick draws a name from a list; by default any
 */
export function shortRecord(kind, random, pick = (names) => random.pick(names)) {
  const record = KINDS[kind](random)
  for (const field of ['person', 'other']) if (record[field]) record[field] = pick(PEOPLE)
  for (const field of ['town', 'from']) if (record[field]) record[field] = pick(TOWNS)
  if (record.thing) record.thing = `${random.pick(MATERIALS)} ${random.pick(GOODS)}`
  return record
}

/** For `shortRecord`: names that are held out, or names that are not. */
export const fromPart = (random, heldOut) => (names) =>
  random.pick(names.filter((name) => isHeldOut(name) === heldOut))

const turn = (content, answer) => [
  { role: 'user', content },
  { role: 'assistant', content: answer },
]

/** Several questions about one record, and now and then another form of it. */
function about(random) {
  const kind = random.chance(0.5) ? 'order' : random.pick(Object.keys(KINDS))
  const record = shortRecord(kind, random)
  const source = random.chance(0.8) ? 'sentence' : random.pick(['list', 'card', 'letter'])
  const text =
    source === 'sentence' ? sentence(kind, record, random) : FORMS[source](kind, record, random, true)
  const turns = Array.from({ length: random.between(2, 5) }, () => {
    const about = random.next()
    if (about < 0.3) return question(record, random)
    if (about < 0.6 && (record.date || record.thing)) return detail(record, random)
    const form = random.pick(['json', 'json', 'json', 'csv', 'list', 'card'])
    return [random.pick(REQUESTS[form]), FORMS[form](kind, record, random, true)]
  })
  return turns.flatMap(([request, answer], i) => {
    if (i > 0) return turn(request, answer)
    return turn(random.chance(0.6) ? `${request}\n${text}` : `${text}\n${request}`, answer)
  })
}

/** Names that are to be said again. */
function repeated(random) {
  const pool = random.pick([PEOPLE, TOWNS])
  const names = random.sample(pool, random.between(2, 6))
  const line = names.join(random.pick([', ', '\n', ' and ', '; ']))
  const request = random.pick(['Say this again.', 'Repeat this.', 'Copy these names.'])
  const answer = random.chance(0.5) ? line : names.map((name) => `"${name}"`).join(', ')
  return turn(answer === line ? `${request}\n${line}` : `Put these in quotes.\n${line}`, answer)
}

/** Dates and numbers that are to be written in digits. */
function inDigits(random) {
  const dates = random.chance(0.6)
  const records = Array.from({ length: random.between(1, 4) }, () => shortRecord('order', random))
  const pairs = records.map(({ date, number, thing }) => {
    if (dates) return [writtenDate(date, random), isoDate(date)]
    return random.chance(0.7)
      ? [counted(number, thing), `${number} x ${thing}`]
      : [NUMBERS[number], String(number)]
  })
  const column = (i) => pairs.map((pair) => pair[i]).join('\n')
  return turn(`Write this in digits.\n${column(0)}`, column(1))
}

/** Words alone, so that what they become is learned before they have to be found in a sentence. */
function wordByWord(random) {
  const separator = random.pick(['\n', ', ', ' '])
  const [request, pairs] = random.pick([
    ['Write these months in digits.', MONTHS.map((month, i) => [month, String(i + 1).padStart(2, '0')])],
    ['Say one of each.', GOODS.map((thing) => [`${thing}s`, thing])],
    ['Write these with a capital.', JOBS.map((job) => [job, job[0].toUpperCase() + job.slice(1)])],
  ])
  const chosen = random.sample(pairs, random.between(1, 8))
  const column = (i) => chosen.map((pair) => pair[i]).join(separator)
  return turn(`${request}\n${column(0)}`, column(1))
}

/** Questions about the month and the thing alone. */
function detail(record, random) {
  const { date, thing } = record
  const month = date && MONTHS[date.month - 1]
  return random.pick([
    ...(date
      ? [
          ['Which month?', month],
          ['The month in digits?', isoDate(date).slice(5, 7)],
          ['Which month and year?', `${month} ${date.year}`],
        ]
      : []),
    ...(thing
      ? [
          ['One of them?', thing],
          ['One of them, without more?', thing.split(' ')[1]],
        ]
      : []),
  ])
}

/** A chat, by its number. */
export function chatRow(seed, index) {
  const random = new Random(Math.imul(index + 1, 0x85ebca6b) ^ seed)
  const kind = random.next()
  const make = [
    [0.66, about],
    [0.74, repeated],
    [0.86, inDigits],
    [1, wordByWord],
  ].find(([below]) => kind < below)[1]
  const messages = make(random)
  return { messages }
}
