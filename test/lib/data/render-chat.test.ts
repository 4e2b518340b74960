/** Chats that the template of a model renders in a process. */
import { readFileSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import { DataError } from '../../../lib/core/errors.js'
import { renderChat, renderChats } from '../../../lib/data/render-chat.js'
import type { TokenizerSource } from '../../../lib/tokenizer/source.js'
import { sweepTest, swept } from '../../sweep.js'

const parity = (name: string) => JSON.parse(readFileSync(`test/parity/${name}`, 'utf8'))
const { tokenizer: tokenizerJson, config: tokenizerConfig } = parity('tokenizer_small.json').tokenizers.smollm
const { templates } = parity('tokenizer_chat.json')
const source: TokenizerSource = { tokenizerJson, tokenizerConfig, chatTemplate: templates.chatml.text }

describe('renderChat', () => {
  const messages = [{ role: 'user', content: 'Hi' }]

  it('gives the prompt text', async () => {
    const text = await renderChat(source, messages, { addGenerationPrompt: true })
    expect(text).toMatch(/<\|im_start\|>user\nHi<\|im_end\|>\n<\|im_start\|>assistant\n$/)
  })

  it('renders several chats at once, of which the template may refuse some', async () => {
    const strict = `{% if messages | length > 1 %}{{ raise_exception('one at a time') }}{% endif %}[{{ messages[0].content }}]`
    const chats = [messages, [...messages, ...messages], messages].map((chat) => ({
      messages: chat,
      options: {},
    }))
    const [first, second, third] = await renderChats({ ...source, chatTemplate: strict }, chats)
    expect([first, third]).toEqual(['[Hi]', '[Hi]'])
    expect(second).toBeInstanceOf(DataError)
    expect((second as DataError).message).toMatch(/one at a time/)
  })

  it('takes the template for tools when there are tools', async () => {
    const named = { ...source, namedTemplates: { tool_use: 'tools: {{ tools | length }}' } }
    expect(await renderChat(named, messages, { tools: [{}] })).toBe('tools: 1')
  })

  it.each(
    swept(
      [
        ['replace', "ns.text|replace('a', 'aaaaaaaaaaaaaaaaaaaa')"],
        ['split', "ns.text + ns.text %}{% set ns.list = ns.text.split('a')"],
      ] as const,
      1,
    ),
  )('is rejected for a template that makes V8 end its process: %s', async (_, growth) => {
    const template = `{% set ns = namespace(text='aaaaaaaaaa') %}{% for i in range(60) %}{% set ns.text = ${growth} %}{% endfor %}`
    const limits = { milliseconds: 50_000, characters: 1000 }
    await expect(renderChat({ ...source, chatTemplate: template }, messages, { limits })).rejects.toThrow(
      /more than 256 MiB of memory and was stopped/,
    )
  })

  sweepTest('is rejected without a template, and for one that fills the memory', async () => {
    await expect(renderChat({ tokenizerJson }, messages)).rejects.toThrow(/no chat template/)
    const hungry =
      '{% set ns = namespace(list=[1]) %}{% for a in range(28) %}{% set ns.list = ns.list + ns.list %}{% endfor %}'
    const limits = { milliseconds: 50_000, characters: 1000 }
    await expect(renderChat({ ...source, chatTemplate: hungry }, messages, { limits })).rejects.toThrow(
      /more than 256 MiB of memory and was stopped/,
    )
  })
})
