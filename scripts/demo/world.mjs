/**
 * An invented world: people and places that do not exist, and records about them. Everything is drawn from a seed, and
 * no word of it comes from anywhere but this folder.
 *
 * Names are put together from syllables, so there are tens of thousands, and a model can only get them right by
 * copying. One name in ten, by a hash of its letters, is left out: whoever wants names that the base never saw has
 * them.
 */

/** Random numbers from a seed; the same on every machine. */
export class Random {
  #state

  constructor(seed) {
    this.#state = seed >>> 0
  }

  /** In [0, 1): mulberry32. */
  next() {
    this.#state = (this.#state + 0x6d2b79f5) >>> 0
    let t = this.#state
    t = Math.imul(t ^ (t >>> 15), t | 1)
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61)
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296
  }

  /** An integer from `low` to `high`, both included. */
  between(low, high) {
    return low + Math.floor(this.next() * (high - low + 1))
  }

  chance(share) {
    return this.next() < share
  }

  pick(list) {
    return list[Math.floor(this.next() * list.length)]
  }

  /** `count` different ones, in random order. */
  sample(list, count) {
    const rest = [...list]
    const chosen = []
    while (chosen.length < count && rest.length > 0)
      chosen.push(...rest.splice(Math.floor(this.next() * rest.length), 1))
    return chosen
  }

  shuffle(list) {
    return this.sample(list, list.length)
  }
}

/** FNV-1a over UTF-16 units, 32 bits. */
export function hash(text) {
  let value = 0x811c9dc5
  for (let i = 0; i < text.length; i++) value = Math.imul(value ^ text.charCodeAt(i), 0x01000193) >>> 0
  return value
}

/** True if a name is left out of all text. */
export function isLeftOut(name) {
  return hash(name) % 10 === 0
}

export const words = (text) => text.trim().split(/\s+/)

const STARTS = words(`
  Al Am An Ar Bel Ben Bor Bra Cal Cor Da Del Dor El Em Er Fa Fen Fi Fro Ga Gar Gil Gor Ha Hal Hel Il In Is Ja Jo Jul
  Ka Kel Ki Kor La Len Lin Lo Lu Ma Mar Mel Mi Mor Na Nel No Nor O Or Os Pa Pel Pi Ra Ren Ri Ro Sa Sel Si Sol Ta Tal
  Te Ti Tol Tor Ul Va Vel Vi Wen Wil Ya Yo Za Zel
`)
const FIRST_ENDS = words(`
  ra na la mi vin rin nor lis ta dan bel so rik len ya mon dra nia ric via win mer sa lo na ten dor lia ven mar
`)
const LAST_ENDS = words(`
  ven mar dell son berg wick lund man thorn ley ström gate kin stad more bray ford low ner cott den sen vik holt rane
`).map((end) => end.replace('ö', 'o'))
const TOWN_ENDS = words(`
  brook field haven port ton bury mouth dale bridge wood stead hill cliff moor ness worth burn lake mere gard
`)

/** A word of two syllables, sometimes three. */
function invented(random, ends) {
  for (;;) {
    const middle = random.chance(0.15) ? random.pick(FIRST_ENDS) : ''
    const name = random.pick(STARTS) + middle + random.pick(ends)
    if (!isLeftOut(name)) return name
  }
}

export const firstName = (random) => invented(random, FIRST_ENDS)
export const lastName = (random) => invented(random, LAST_ENDS)
export const personName = (random) => `${firstName(random)} ${lastName(random)}`
export const townName = (random) => invented(random, TOWN_ENDS)

export const MONTHS = words(
  'January February March April May June July August September October November December',
)
export const NUMBERS = words('zero one two three four five six seven eight nine ten eleven twelve')
const MONTH_DAYS = [31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31]

export const MATERIALS = words(`
  copper wooden glass silver paper leather cotton iron stone silk wool brass steel linen velvet clay plastic bamboo
  red blue green yellow white black brown grey orange purple pink golden small large long round square heavy light old
`)
/** Singular; the plural only adds an s. */
export const THINGS = words(`
  lamp chair table basket mirror bottle blanket candle clock bowl kettle pan plate spoon cup jar bag coat scarf hat
  shirt belt boot glove ring pen pencil book map stamp card frame vase pot rug curtain pillow towel bell drum flute
  guitar kite ball puzzle toy doll rope ladder hammer saw drill nail bucket broom shovel rake hose tent lantern torch
  radio camera phone screen keyboard cable battery wheel helmet saddle pedal tyre anchor oar sail net hook bench desk
  shelf-board stool cabinet drawer door window tile brick pipe tap lock key chain button zip needle thread-roll ribbon
`).filter((thing) => !thing.includes('-'))

export const JOBS = words(`
  baker teacher nurse farmer painter doctor driver gardener lawyer singer tailor plumber dentist pilot sailor miner
  weaver potter cook waiter writer printer builder carpenter mason banker barber butcher fisher hunter porter ranger
`)
export const PETS = words(
  'cat dog horse goat rabbit parrot hen duck pony tortoise ferret canary goose sheep donkey',
)

/** Between the years 2026 and 2049, as year, month and day from 1. */
function date(random) {
  const month = random.between(1, 12)
  return { year: random.between(2026, 2049), month, day: random.between(1, MONTH_DAYS[month - 1]) }
}

const two = (number) => String(number).padStart(2, '0')

export const isoDate = ({ year, month, day }) => `${year}-${two(month)}-${two(day)}`
export const plainDate = ({ year, month, day }) => `${day} ${MONTHS[month - 1]} ${year}`

/** A date in one of the ways in which people write it. */
export function writtenDate({ year, month, day }, random) {
  const name = MONTHS[month - 1]
  return random.pick([
    `${day} ${name} ${year}`,
    `${day} ${name} ${year}`,
    `${name} ${day}, ${year}`,
    `the ${ordinal(day)} of ${name} ${year}`,
  ])
}

export function ordinal(day) {
  const ending = day > 10 && day < 20 ? 'th' : (['th', 'st', 'nd', 'rd'][day % 10] ?? 'th')
  return `${day}${ending}`
}

/** "three copper lamps", or "one copper lamp". */
export function counted(number, thing) {
  return `${NUMBERS[number]} ${number === 1 ? thing : `${thing}s`}`
}

export const thing = (random) => `${random.pick(MATERIALS)} ${random.pick(THINGS)}`

/** Fields of each kind of record. */
export const KINDS = {
  order: (random) => ({
    person: personName(random),
    town: townName(random),
    thing: thing(random),
    number: random.between(1, 12),
    date: date(random),
  }),
  trip: (random) => ({
    person: personName(random),
    from: townName(random),
    town: townName(random),
    number: random.between(1, 12),
    date: date(random),
  }),
  visit: (random) => ({
    person: personName(random),
    job: random.pick(JOBS),
    town: townName(random),
    date: date(random),
  }),
  parcel: (random) => ({
    person: personName(random),
    other: personName(random),
    town: townName(random),
    thing: thing(random),
    number: random.between(1, 12),
  }),
  member: (random) => ({
    person: personName(random),
    job: random.pick(JOBS),
    town: townName(random),
    pet: random.pick(PETS),
    date: date(random),
  }),
}
