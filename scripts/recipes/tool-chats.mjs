/** Chats of a shop's assistant that calls tools: the calls, their results, and the answers after them. */
import { Random, THINGS } from '../demo/world.mjs'

const tool = (name, description, properties, required) => ({
  type: 'function',
  function: { name, description, parameters: { type: 'object', properties, required } },
})
const ITEM = { item: { type: 'string' } }
const STOCK = tool(
  'stock',
  'Number of items in stock',
  { ...ITEM, warehouse: { type: 'string', enum: ['north', 'south'] } },
  ['item'],
)
const ORDER = tool('order', 'Orders items', { ...ITEM, count: { type: 'integer' } }, ['item', 'count'])

export const TOOLS = [STOCK, ORDER]

const user = (content) => ({ role: 'user', content })
const call = (name, args) => ({
  role: 'assistant',
  content: '',
  tool_calls: [{ type: 'function', function: { name, arguments: args } }],
})
const result = (value) => ({ role: 'tool', content: JSON.stringify(value) })
const says = (content) => ({ role: 'assistant', content })

const KINDS = [
  (random, item) => {
    const [warehouse, count] = [random.pick(['north', 'south']), random.between(0, 40)]
    return [
      user(`How many ${item}s are in the ${warehouse}?`),
      call('stock', { item, warehouse }),
      result({ count }),
      says(`There are ${count} ${item}s in the ${warehouse}.`),
    ]
  },
  (random, item) => {
    const count = random.between(2, 40)
    return [
      user(`Please order ${count} ${item}s.`),
      call('order', { item, count }),
      result({ ok: true }),
      says(`I ordered ${count} ${item}s.`),
    ]
  },
  (random, item) => {
    const [least, left, count] = [random.between(4, 9), random.between(0, 12), random.between(10, 30)]
    const opening = [
      user(`Order ${count} ${item}s if fewer than ${least} are left.`),
      call('stock', { item }),
      result({ count: left }),
    ]
    if (left >= least) return [...opening, says(`There are still ${left} ${item}s, so I ordered none.`)]
    return [
      ...opening,
      call('order', { item, count }),
      result({ ok: true }),
      says(`Only ${left} ${item}s were left, so I ordered ${count}.`),
    ]
  },
  (random, item) => {
    const question = random.pick([`Can you repair my ${item}?`, `Is a ${item} a good present?`])
    return [user(question), says('That I do not know. I can look up the stock and order items.')]
  },
]

export function toolChats(count) {
  const random = new Random(15)
  return Array.from({ length: count }, (_, i) => ({
    tools: TOOLS,
    messages: KINDS[i % KINDS.length](random, random.pick(THINGS)),
  }))
}
