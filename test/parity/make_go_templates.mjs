/**
 * Makes go_templates.json: the templates of Ollama's kind that are made of the chat templates of tokenizer_chat.json, and
 * what Go makes of them. Needs Go and the built package.
 *
 *   node test/parity/make_go_templates.mjs
 */
import { execFileSync } from 'node:child_process'
import { readFileSync, writeFileSync } from 'node:fs'
import { goTemplate } from '../../dist/esm/export/modelfile.js'
import { turnsOf } from '../../dist/esm/export/turns.js'

const at = (name) => new URL(name, import.meta.url)
const sources = {
  ...JSON.parse(readFileSync(at('tokenizer_chat.json'), 'utf8')).templates,
  phi4_mini: {
    text: readFileSync(at('chat-templates/phi4_mini.jinja'), 'utf8'),
    eos_token: '<|endoftext|>',
  },
}
// A day in each month of a year.
const dates = Array.from({ length: 12 }, (_, i) => `2032-${String(i + 1).padStart(2, '0')}-${10 + i}`)

const user = (content) => ({ role: 'user', content })
const assistant = (content) => ({ role: 'assistant', content })
const system = { role: 'system', content: 'Answer {{ briefly }} & <well>.' }
const chats = [
  [user('Hello')],
  [user('Hello'), assistant('Good day!'), user('2 < 3 && "a"?')],
  [system, user('Hello')],
  [system, user('Hello'), assistant('Good day!'), user('And then?\n\nMore.')],
  [system, user('a'), assistant('b'), user('c'), assistant('d'), user('e')],
]

const templates = {}
for (const [name, { text, ...tokens }] of Object.entries(sources)) {
  // Tokenizers with this BOS put it in front themselves.
  const bos = ['<s>', '<|begin_of_text|>'].find((token) => token === tokens.bos_token) ?? ''
  const turns = await turnsOf({ chatTemplate: text, tokenizerConfig: tokens }, bos)
  if (turns !== undefined) templates[name] = goTemplate(turns)
}
const program = at('go_templates.go').pathname
const rendered = JSON.parse(
  execFileSync('go', ['run', program], {
    input: JSON.stringify({ templates, chats, dates }),
    encoding: 'utf8',
  }),
)
// Most templates have no dates.
const shortened = Object.entries(rendered).map(([name, byDate]) => {
  const isDated = JSON.stringify(byDate[0]) !== JSON.stringify(byDate[1])
  return [name, isDated ? byDate : byDate.slice(0, 1)]
})
const golden = { chats, dates, templates, rendered: Object.fromEntries(shortened) }
writeFileSync(at('go_templates.json'), `${JSON.stringify(golden, null, 2)}\n`)
