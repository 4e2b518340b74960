/**
 * Training text of the base model, and the task that it is tuned for.
 *
 * A document tells the same record several times over, each time in another form, so that what comes next can mostly
 * be found in what came before: this teaches a small model to copy and to reformat. A part are chats, in which a user
 * asks for a form by name. The task's own question, a bare note without a request, and its own answer, a JSON object
 * with these five keys, occur nowhere in it.
 */
import { fromPart, REQUESTS, shortRecord } from './chats.mjs'
import { FORMS, fill, question, sentence, table } from './forms.mjs'
import {
  counted,
  firstName,
  isoDate,
  KINDS,
  lastName,
  NUMBERS,
  personName,
  plainDate,
  Random,
  townName,
  writtenDate,
} from './world.mjs'

/** Tokens of the chat format. `<|end|>` ends a turn and a document. */
export const USER = '<|user|>'
export const ASSISTANT = '<|assistant|>'
export const END = '<|end|>'

const KIND_NAMES = Object.keys(KINDS)
const FORM_NAMES = Object.keys(FORMS)

function retold(random) {
  const kind = random.pick(KIND_NAMES)
  const record = KINDS[kind](random)
  const forms = [sentence, ...random.sample(Object.values(FORMS), random.between(2, 3))]
  return forms.map((form) => form(kind, record, random)).join('\n\n')
}

function several(random) {
  const kind = random.pick(KIND_NAMES)
  const records = Array.from({ length: random.between(2, 3) }, () => KINDS[kind](random))
  const told = records.map((record) => sentence(kind, record, random)).join(' ')
  return random.chance(0.7) ? `${told}\n\n${table(records, random)}` : `${table(records, random)}\n\n${told}`
}

function chat(random) {
  const kind = random.pick(KIND_NAMES)
  const record = KINDS[kind](random)
  const source = random.chance(0.7) ? 'sentence' : random.pick(FORM_NAMES)
  const text = FORMS[source](kind, record, random, true)
  const turns = []
  for (let left = random.between(1, 3), first = true; left > 0; left--, first = false) {
    const asked = random.chance(0.35)
    const form = random.pick(FORM_NAMES)
    const [request, answer] = asked
      ? question(record, random)
      : [random.pick(REQUESTS[form]), FORMS[form](kind, record, random)]
    const said = !first ? request : random.chance(0.6) ? `${request}\n${text}` : `${text}\n${request}`
    turns.push(`${USER}${said}${END}${ASSISTANT}${answer}${END}`)
  }
  // The last end is that of the document, which the reader of the data adds.
  return turns.join('').slice(0, -END.length)
}

/** Names in a row, twice or three times over. */
function copied(random) {
  const make = random.pick([firstName, lastName, personName, townName])
  const names = Array.from({ length: random.between(3, 8) }, () => make(random))
  const join = random.pick([', ', '\n', ' and ', '; '])
  const line = names.join(join)
  const again = random.pick(['Again', 'Once more', 'The same', 'Copy'])
  return random.pick([
    () => `${line}\n\n${again}: ${line}`,
    () =>
      `${line}\n\n${JSON.stringify(names).replaceAll('","', '", "')}\n\n${names.map((name) => `- ${name}`).join('\n')}`,
    () => `${names.map((name) => `"${name}"`).join(', ')}\n\n${line}\n\n${again}: ${line}`,
  ])()
}

/** Dates, numbers and plurals, each with what it becomes. */
function normalized(random) {
  const line = random.pick([
    () => {
      const { date } = KINDS.visit(random)
      return `${writtenDate(date, random)} = ${isoDate(date)}`
    },
    () => {
      const { date } = KINDS.visit(random)
      return `${isoDate(date)} = ${plainDate(date)}`
    },
    () => {
      const { number, thing } = KINDS.order(random)
      return `${counted(number, thing)} = ${number} x ${thing}`
    },
    () => {
      const { number } = KINDS.order(random)
      return `${NUMBERS[number]} = ${number}`
    },
  ])
  return Array.from({ length: random.between(4, 8) }, line).join('\n')
}

/** A document of the base's text, by its number. */
export function document(seed, index) {
  const random = new Random(Math.imul(index + 1, 0x9e3779b1) ^ seed)
  const kind = random.next()
  if (kind < 0.36) return retold(random)
  if (kind < 0.76) return chat(random)
  if (kind < 0.84) return several(random)
  if (kind < 0.92) return copied(random)
  return normalized(random)
}

/** Notes as customers leave them. */
const NOTES = [
  'Hello, {person} here, from {town}. Please keep {things} for me until {date}.',
  'This is {person}. I would like {things}, to be sent to {town} by {date}.',
  'Could you send {things} to {town}? I need them on {date}. {person}',
  'For {date}, please: {things}. My name is {person} and I live in {town}.',
  'I am {person} and I want to buy {things}. Bring them to {town} on {date}.',
  'We are out of {things} here in {town}! Please send them by {date}. Thank you, {person}',
  '{things} for {person}, please. I will be in {town} on {date}.',
  'My address is in {town}, and I need {things} before {date}. Yours, {person}',
  'Good morning! By {date} I need {things}. Please send all to {person} in {town}.',
  '{person}, {town}: {things}, and please not later than {date}.',
]

/** An item of the task: a note, and the JSON object that it is to become. */
export function item(random, heldOut) {
  const record = shortRecord('order', random, fromPart(random, heldOut))
  const { person, thing, number, town, date } = record
  const [style] = thing.split(' ')
  const answer = { client: person, place: town, quantity: number, style, year: date.year }
  return {
    messages: [
      { role: 'user', content: fill(random.pick(NOTES), record, random) },
      { role: 'assistant', content: JSON.stringify(answer).replaceAll('":', '": ').replaceAll(',"', ', "') },
    ],
  }
}
