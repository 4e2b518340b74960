import { readFileSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import {
  fitsModelfile,
  goTemplate,
  modelfileText,
  saysSystem,
  stopTexts,
} from '../../../lib/export/modelfile.js'
import { type Turns, turnsOf } from '../../../lib/export/turns.js'
import { ChatTemplate } from '../../../lib/tokenizer/chat-template.js'
import { loadTokenizer } from '../../../lib/tokenizer/tokenizer.js'

const parity = (name: string) =>
  JSON.parse(readFileSync(new URL(`../../parity/${name}`, import.meta.url), 'utf8'))
const sources = {
  ...parity('tokenizer_chat.json').templates,
  phi4_mini: {
    text: readFileSync(new URL('../../parity/chat-templates/phi4_mini.jinja', import.meta.url), 'utf8'),
    eos_token: '<|endoftext|>',
  },
} as Record<string, { text: string; bos_token?: string }>
/** Made by Go's text/template. */
const golden = parity('go_templates.json') as {
  chats: { role: string; content: string }[][]
  dates: string[]
  templates: Record<string, string>
  /** By date; a template without dates is rendered on the first. */
  rendered: Record<string, string[][]>
}

const bosOf = (name: string) =>
  ['<s>', '<|begin_of_text|>'].find((token) => token === sources[name]?.bos_token) ?? ''

function turnsOfSource(name: string): Promise<Turns | undefined> {
  const { text, ...tokens } = sources[name] as { text: string }
  return turnsOf({ tokenizerJson: {}, chatTemplate: text, tokenizerConfig: tokens }, bosOf(name))
}

it('has a template for Llama 3.2, which shows the date, and for Phi-4-mini, which ends texts', () => {
  expect(Object.keys(golden.templates)).toEqual(expect.arrayContaining(['llama32', 'phi4_mini']))
})

describe.each(Object.keys(golden.templates))('the chat template %s in the language of Go', (name) => {
  it('gives the texts that the Jinja template gives', async () => {
    const turns = (await turnsOfSource(name)) as Turns
    expect(goTemplate(turns)).toBe(golden.templates[name])
    const { text, ...tokens } = sources[name] as { text: string }
    const jinja = new ChatTemplate(text, tokens)
    let compared = 0
    golden.rendered[name]?.forEach((rendered, day) => {
      const now = new Date(`${golden.dates[day]}T12:00`)
      golden.chats.forEach((chat, i) => {
        const system = chat[0]?.role === 'system'
        if (system && turns.system === null) return
        // Ollama puts the default in as a message; Go was given none.
        if (!system && turns.defaultSystem !== '') return
        const expected = jinja.render(chat, { addGenerationPrompt: true, now })
        const bos = bosOf(name)
        expect(rendered[i]).toBe(
          bos !== '' && expected.startsWith(bos) ? expected.slice(bos.length) : expected,
        )
        compared++
      })
    })
    expect(compared).toBeGreaterThan(name === 'llama32' ? 50 : 1)
  })
})

it('finds the system prompt that a template puts in, and where it stands', async () => {
  expect((await turnsOfSource('chatml'))?.defaultSystem).toBe('You are a helpful assistant.')
  expect((await turnsOfSource('llama2'))?.system).toEqual({
    place: 'first',
    before: '<<SYS>>\n',
    after: '\n<</SYS>>\n\n',
  })
  expect((await turnsOfSource('mistral'))?.system).toBeNull()
  const last =
    "{% for m in messages %}{% if m.role == 'user' %}[I]{% if loop.last and messages[0].role == 'system' %}{{ messages[0].content }}. {% endif %}{{ m.content }}[/I]{% elif m.role == 'assistant' %}{{ m.content }};{% endif %}{% endfor %}"
  const turns = (await turnsOf({ tokenizerJson: {}, chatTemplate: last }, '')) as Turns
  expect(turns.system).toEqual({ place: 'last', before: '', after: '. ' })
  expect(goTemplate(turns)).toContain('{{ if and $.System (eq (len (slice $.Messages $i)) 1) }}')
})

it.each(['speakers', 'marked_spaces'])('leaves out what it cannot say: %s', async (name) => {
  expect(await turnsOfSource(name)).toBeUndefined()
})

const plain: Turns = {
  system: null,
  user: { before: 'U:', after: '' },
  assistant: { before: '', after: '' },
  between: '',
  opening: '',
  defaultSystem: '',
  generation: '',
}

it('writes a Modelfile', async () => {
  const turns = (await turnsOfSource('chatml')) as Turns
  const text = modelfileText({
    model: 'model.gguf',
    adapter: 'adapter.gguf',
    turns,
    format: null,
    stops: ['<|im_end|>', 'a "b"\n'],
    context: 131072,
  })
  expect(text).toBe(`FROM ./model.gguf
ADAPTER ./adapter.gguf
TEMPLATE """${golden.templates.chatml}"""
SYSTEM """You are a helpful assistant."""
PARAMETER stop "<|im_end|>"
PARAMETER stop "a \\"b\\"\\n"
PARAMETER num_ctx 8192
`)
  const bare = modelfileText({
    model: 'm',
    adapter: undefined,
    turns: undefined,
    format: null,
    stops: [],
    context: undefined,
  })
  expect(bare).toBe('FROM ./m\n')
})

it('writes what a run trained on into a Modelfile', async () => {
  const turns = (await turnsOfSource('chatml')) as Turns
  const rest = { model: 'm', adapter: undefined, stops: [], context: undefined }
  const chat = { form: 'chat', template: null, system: 'Name it.', prefix: '', suffix: '', stop: [] } as const
  expect(modelfileText({ ...rest, turns, format: chat })).toContain('SYSTEM """Name it."""\n')
  // It cannot stand in a Modelfile.
  const quotes = { ...chat, system: 'Say """.' }
  expect(modelfileText({ ...rest, turns, format: quotes })).toContain('SYSTEM """You are a helpful')
  expect(saysSystem(quotes, turns)).toBe(false)
  const raw = { ...chat, form: 'raw', system: null, prefix: 'Do: {{', suffix: '\n->' } as const
  expect(modelfileText({ ...rest, turns: undefined, format: raw })).toBe(
    'FROM ./m\nTEMPLATE """{{ "Do: {{" }}{{ .Prompt }}\n->"""\n',
  )
})

it('keeps what would be taken for Go or for the end of a text from being so', () => {
  expect(goTemplate({ ...plain, generation: '{{ "x" }}\n' })).toMatch(/\{\{ "\{\{ \\"x\\" \}\}\\n" \}\}$/)
  expect(fitsModelfile(plain)).toBe(true)
  expect(fitsModelfile({ ...plain, generation: '"""' })).toBe(false)
})

it('stops at end tokens, at what closes an answer, and at the next turn', async () => {
  const { tokenizer, config } = parity('tokenizer_small.json').tokenizers.smollm
  const loaded = loadTokenizer({ tokenizerJson: tokenizer, tokenizerConfig: config, eosTokenIds: [900] })
  expect(stopTexts(loaded, await turnsOfSource('chatml'))).toEqual([
    '<|im_end|>',
    '<|endoftext|>',
    '<|im_start|>',
  ])
  expect(stopTexts(loaded, undefined)).toEqual(['<|im_end|>', '<|endoftext|>'])
})
