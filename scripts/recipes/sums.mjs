/** Questions that are answered after some reasoning, and a few that need none. */
import { Random } from '../demo/world.mjs'

const PLACES = ['shelf', 'box', 'crate', 'shop', 'cart']
const GOODS = ['jars', 'candles', 'bowls', 'plates', 'lamps', 'books']
const PLAIN = [
  ['Thank you, that is all.', 'You are welcome.'],
  ['Good morning.', 'Good morning. What shall I work out?'],
  ['Can you do sums?', 'Yes. Ask me one.'],
  ['See you tomorrow.', 'See you tomorrow.'],
  ['What is your name?', 'I have none. I work out sums.'],
  ['Do you like numbers?', 'I work with them all day.'],
]

const asked = (content) => ({ role: 'user', content })
const answered = (content, reasoning) => ({
  role: 'assistant',
  ...(reasoning === undefined ? {} : { reasoning_content: reasoning }),
  content,
})

const KINDS = [
  (random) => {
    const [place, goods, all, sold] = [...scene(random), random.between(20, 60), random.between(2, 19)]
    const left = all - sold
    return [
      asked(`A ${place} holds ${all} ${goods}, and ${sold} are sold. How many are left?`),
      answered(`${left} ${goods}.`, `${all} - ${sold} = ${left}.`),
    ]
  },
  (random) => {
    const [place, goods, each, count] = [...scene(random), random.between(3, 12), random.between(2, 9)]
    return [
      asked(`A ${place} holds ${each} ${goods}. How many ${goods} do ${count} of them hold?`),
      answered(`${count * each} ${goods}.`, `${count} x ${each} = ${count * each}.`),
    ]
  },
  (random) => {
    const [goods, count, price] = [random.pick(GOODS), random.between(2, 9), random.between(2, 9)]
    const [cost, paid] = [count * price, 100]
    return [
      asked(`I buy ${count} ${goods} for ${price} coins each and pay with ${paid}. What do I get back?`),
      answered(`${paid - cost} coins.`, `${count} x ${price} = ${cost}. ${paid} - ${cost} = ${paid - cost}.`),
    ]
  },
  (random) => {
    const [place, goods, all, more] = [...scene(random), random.between(5, 40), random.between(2, 30)]
    const whole = all + more
    return [
      asked(`A ${place} holds ${all} ${goods}, and ${more} more arrive. How many are there?`),
      answered(`${whole} ${goods}.`, `${all} + ${more} = ${whole}.`),
      asked('And if as many again arrive, and one more?'),
      answered(
        `${whole * 2 + 1} ${goods}.`,
        `2 x ${whole} = ${whole * 2}. ${whole * 2} + 1 = ${whole * 2 + 1}.`,
      ),
    ]
  },
]

const scene = (random) => [random.pick(PLACES), random.pick(GOODS)]

export function sums(count) {
  const random = new Random(14)
  return Array.from({ length: count }, (_, i) => {
    if (i % 10 !== 9) return { messages: KINDS[i % KINDS.length](random) }
    const [question, answer] = PLAIN[Math.floor(i / 10) % PLAIN.length]
    return { messages: [asked(question), answered(answer)] }
  })
}
