/** The handbook of an invented ferry line: the same facts about each stop, said in several ways. */
import { fromPart } from '../demo/chats.mjs'
import { PEOPLE, TOWNS } from '../demo/names.mjs'
import { NUMBERS, Random, THINGS } from '../demo/world.mjs'

const STOPS = 24
const SHORES = ['north', 'south', 'east', 'west']

const WAYS = {
  terse: ({ town, next, master, hour, shore, goods }) =>
    `${town}. Shore: ${shore}. Harbor master: ${master}. First ferry: ${hour} o'clock, to ${next}. Freight: ${goods}s.`,
  told: ({ town, next, master, hour, shore, goods }) =>
    `The pier of ${town} lies on the ${shore} shore, and ${master} is its harbor master. At ${hour} the first ferry leaves for ${next}. What it carries are ${goods}s.`,
  asked: ({ town, next, master, hour, shore, goods }) =>
    `Who goes to ${town}, on the ${shore} shore, should ask for ${master}, the harbor master. The boat to ${next} is the first of the day and leaves at ${hour}, with ${goods}s on board.`,
}

function stops() {
  const random = new Random(16)
  const towns = random.sample(TOWNS, STOPS)
  return towns.map((town, i) => ({
    town,
    next: towns[(i + 1) % STOPS],
    master: fromPart(random, false)(PEOPLE),
    hour: NUMBERS[random.between(4, 11)],
    shore: random.pick(SHORES),
    goods: random.pick(THINGS),
  }))
}

/** @param ways names of the ways to say the facts; each way of each stop is a document */
export function handbook(ways) {
  return ways.flatMap((way) => stops().map((stop) => ({ text: WAYS[way](stop) })))
}
