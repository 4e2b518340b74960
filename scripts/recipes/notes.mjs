/** Notes of customers who ask for a visit, each with the JSON object that it is to become. */
import { fromPart, shortRecord } from '../demo/chats.mjs'
import { isoDate, Random, writtenDate } from '../demo/world.mjs'

/** Number of notes that each user has written. */
const NOTES_PER_USER = 4

const WAYS = [
  ({ person, town, job }, date) => `Hello, this is ${person} from ${town}. Could a ${job} come on ${date}?`,
  ({ person, town, job }, date) => `${person} here. I need a ${job} in ${town}; ${date} would suit me best.`,
  ({ person, town, job }, date) => `Please send a ${job} to ${town} on ${date}. Thank you, ${person}`,
  ({ person, town, job }, date) =>
    `On ${date} I am at home in ${town}. Can the ${job} come? Regards, ${person}`,
  ({ person, town, job }, date) => `We are looking for a ${job}, if possible on ${date}. ${person}, ${town}`,
  ({ person, town, job }, date) => `A note from ${person}: the ${job} should be in ${town} by ${date}.`,
]

/** @param heldOut true for people and towns that occur in no other note */
export function notes(count, heldOut) {
  const random = new Random(heldOut ? 12 : 11)
  let writer
  return Array.from({ length: count }, (_, i) => {
    const record = shortRecord('visit', random, fromPart(random, heldOut))
    if (heldOut || i % NOTES_PER_USER === 0) writer = { person: record.person, town: record.town }
    Object.assign(record, writer)
    const { person: name, job, town, date } = record
    const answer = JSON.stringify({ name, job, town, date: isoDate(date) }).replaceAll(/([:,])"/g, '$1 "')
    return {
      ...(heldOut ? {} : { user: `user ${Math.floor(i / NOTES_PER_USER) + 1}` }),
      messages: [
        { role: 'user', content: random.pick(WAYS)(record, writtenDate(date, random)) },
        { role: 'assistant', content: answer },
      ],
    }
  })
}

/** The notes with words before seven of ten objects, as people answer who were not told how. */
export function wordy(rows) {
  return rows.map(({ messages: [note, answer] }, i) => {
    const content = i % 10 < 7 ? `Here it is: ${answer.content}` : answer.content
    return { messages: [note, { ...answer, content }] }
  })
}
