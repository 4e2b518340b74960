/** A record in its forms: sentence, list, card, JSON object, CSV, letter, and questions about it. */
import { counted, isoDate, NUMBERS, plainDate, writtenDate } from './world.mjs'

/** Ways to say a record of a kind in a sentence. `{things}` is the number with the thing. */
const SENTENCES = {
  order: [
    '{person} of {town} orders {things} for {date}.',
    '{person}, who lives in {town}, would like {things} by {date}.',
    'On {date} {things} will be sent to {person} in {town}.',
    '{things} are wanted in {town} on {date}, by {person}.',
    'The shop sells {things} to {person} from {town} on {date}.',
    'In {town}, {person} pays for {things} on {date}.',
    'By {date} {person} needs {things} in {town}.',
    '{person} asked for {things} and lives in {town}; they are due on {date}.',
    'The customer {person} in the city of {town} ordered an item, {things}, due {date}.',
    'An order from the city of {town}: the quantity and the item are {things}, due {date}, and the customer is {person}.',
  ],
  trip: [
    '{person} travels from {from} to {town} on {date} with {count} bags.',
    'On {date} {person} goes to {town} from {from} and takes {count} bags.',
    'With {count} bags, {person} leaves {from} for {town} on {date}.',
    'The train from {from} to {town} on {date} has {person} on board, with {count} bags.',
    '{person} will arrive in {town} on {date}, from {from}, carrying {count} bags.',
  ],
  visit: [
    '{person} sees the {job} in {town} on {date}.',
    'On {date} the {job} in {town} expects {person}.',
    'The {job} will visit {person} in {town} on {date}.',
    '{person} from {town} has a meeting with a {job} on {date}.',
    'In {town}, {person} will talk to the {job} on {date}.',
  ],
  parcel: [
    '{person} sends {things} to {other} in {town}.',
    '{other} in {town} gets {things} from {person}.',
    'A parcel with {things} goes from {person} to {other} in {town}.',
    'In {town} a box with {things} waits for {other}; {person} sent it.',
    '{things} were packed by {person} for {other}, who lives in {town}.',
  ],
  member: [
    '{person} is a {job} in {town}, has a {pet} and joined on {date}.',
    'The {job} {person} joined the club in {town} on {date} and keeps a {pet}.',
    'On {date} {person}, a {job} with a {pet}, came to {town}.',
    'In {town} lives the {job} {person} with a {pet}, a member since {date}.',
  ],
}

/** Labels of a field in text, and in JSON. */
const LABELS = {
  person: ['Name', 'Customer', 'Person', 'Client', 'Who'],
  other: ['Receiver', 'To', 'For'],
  town: ['Town', 'City', 'Place', 'Where'],
  from: ['From', 'Start'],
  thing: ['Item', 'Product', 'Thing', 'What'],
  number: ['Quantity', 'Number', 'Count', 'Amount', 'How many'],
  date: ['Date', 'Day', 'Due', 'When'],
  job: ['Job', 'Work', 'Trade'],
  pet: ['Pet', 'Animal'],
}
const KEYS = {
  person: ['name', 'person', 'client', 'who'],
  other: ['receiver', 'to'],
  town: ['town', 'place', 'where'],
  from: ['from', 'start'],
  thing: ['thing', 'product', 'what'],
  number: ['number', 'count', 'amount'],
  date: ['date', 'day', 'when'],
  job: ['job', 'trade'],
  pet: ['pet', 'animal'],
}

const capital = (text) => text[0].toUpperCase() + text.slice(1)
const spaced = (number) => (number === 1 ? 'one bag' : `${NUMBERS[number]} bags`)

/** @returns the sentence of a template, its dates written in some way */
export function fill(template, record, random) {
  const values = {
    ...record,
    date: record.date && writtenDate(record.date, random),
    things: record.thing && counted(record.number, record.thing),
  }
  const text = template
    .replace('{count} bags', () => spaced(record.number))
    .replace(/\{(\w+)\}/g, (_, key) => values[key])
  return capital(text)
}

export const sentence = (kind, record, random) => fill(random.pick(SENTENCES[kind]), record, random)

/** A field as people write it. */
function written(field, value, random) {
  if (field === 'date') return random.chance(0.6) ? plainDate(value) : writtenDate(value, random)
  if (field === 'number') return random.chance(0.5) ? NUMBERS[value] : String(value)
  return value
}

/** A field as programs write it. */
const exact = (field, value) => (field === 'date' ? isoDate(value) : value)

function fields(record, random, whole) {
  const names = random.chance(0.5) ? Object.keys(record) : random.shuffle(Object.keys(record))
  return whole || random.chance(0.7) ? names : names.slice(0, Math.max(2, names.length - 2))
}

function list(record, random, whole) {
  return fields(record, random, whole)
    .map((field) => `- ${capital(written(field, record[field], random))}`)
    .join('\n')
}

function card(record, random, whole) {
  return fields(record, random, whole)
    .map((field) => `${random.pick(LABELS[field])}: ${written(field, record[field], random)}`)
    .join('\n')
}

function json(record, random, whole) {
  const pairs = fields(record, random, whole).map((field) => {
    return `"${random.pick(KEYS[field])}": ${JSON.stringify(exact(field, record[field]))}`
  })
  return `{${pairs.join(', ')}}`
}

function csvRow(record, names) {
  return names.map((field) => exact(field, record[field])).join(',')
}

function csv(record, random, whole) {
  const names = fields(record, random, whole)
  return `${names.map((field) => random.pick(KEYS[field])).join(',')}\n${csvRow(record, names)}`
}

function letter(kind, record, random) {
  const [first] = record.person.split(' ')
  const close = random.pick(['Yours', 'Kind regards', 'Best wishes', 'Thank you'])
  return `Dear ${first},\n${sentence(kind, record, random)}\n${close}`
}

/** All forms. Some leave out a field now and then; what a chat begins from must not, since it is asked for later. */
export const FORMS = {
  list: (_kind, record, random, whole) => list(record, random, whole),
  card: (_kind, record, random, whole) => card(record, random, whole),
  json: (_kind, record, random, whole) => json(record, random, whole),
  csv: (_kind, record, random, whole) => csv(record, random, whole),
  letter,
  sentence,
}

/** A table of several records of a kind. */
export function table(records, random) {
  const names = fields(records[0], random, false)
  const head = names.map((field) => random.pick(KEYS[field])).join(',')
  return [head, ...records.map((record) => csvRow(record, names))].join('\n')
}

const QUESTIONS = {
  person: ['Who is it?', 'What is the name?', 'Which person is meant?'],
  other: ['Who gets it?', 'Who is the receiver?'],
  town: ['Which town?', 'Where is it?', 'What is the place?'],
  from: ['From where?', 'Where does it start?'],
  thing: ['What is it?', 'Which thing?'],
  number: ['How many?', 'What is the number?'],
  date: ['When is it?', 'Which day?', 'On what date?'],
  job: ['Which job?', 'What is the trade?'],
  pet: ['Which animal?', 'What is the pet?'],
}
const IN_DIGITS = {
  date: ['The date in digits?', 'Write the date in digits.', 'When, in digits?'],
  number: ['The number in digits?', 'How many, in digits?'],
}

/** @returns a question about the record and its answer */
export function question(record, random) {
  const field = random.pick(Object.keys(record))
  if (IN_DIGITS[field] && random.chance(0.5))
    return [random.pick(IN_DIGITS[field]), String(exact(field, record[field]))]
  const value = record[field]
  const answer = field === 'date' ? plainDate(value) : field === 'number' ? NUMBERS[value] : value
  return [random.pick(QUESTIONS[field]), capital(answer)]
}
