/** Chats in the form that the templates of some models read, against transformers on chats rewritten by hand. */

import { readFileSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import type { MessagesRow } from '../../../lib/data/dataset.js'
import { RowEncoder } from '../../../lib/data/encode.js'
import { type EncodedRow, type EncodeRowOptions, IGNORE } from '../../../lib/data/encoded-row.js'
import { TRAINING_TEMPLATES } from '../../../lib/models/index.js'
import { ChatTemplate } from '../../../lib/tokenizer/chat-template.js'
import type { DatasetMessage } from '../../../lib/tokenizer/message.js'
import { trainingTemplateFor } from '../../../lib/tokenizer/training-templates.js'

interface Case {
  name: string
  messages: DatasetMessage[]
  tools: unknown[] | null
  text: string
  ids: number[]
}

interface Family {
  own: string
  bos_token: string
  eos_token: string
  added_tokens: object[]
  cases: Case[]
}

const parity = (name: string) => JSON.parse(readFileSync(`test/parity/${name}`, 'utf8'))
const { families, strings } = parity('adapted_chats.json') as {
  families: Record<string, Family>
  strings: { template: string; cases: { value: unknown; text: string }[] }
}
const { tokenizers } = parity('tokenizer_small.json')

/** Name, the text before each answer, and its end. */
const FORMS: Record<string, { name: string; header: RegExp; end: RegExp }> = {
  ministral3: { name: 'Ministral 3', header: /\[\/(INST|TOOL_RESULTS)\]$/, end: /<\/s>$/ },
  phi4_mini: { name: 'Phi-4-mini', header: /<\|assistant\|>$/, end: /<\|end\|>$/ },
  olmo3: {
    name: 'OLMo 3',
    header: /<\|im_start\|>assistant\n(<think>)?$/,
    end: /(<\|im_end\|>|<\|endoftext\|>)$/,
  },
  lfm2: { name: 'LFM2', header: /<\|im_start\|>assistant\n$/, end: /<\|im_end\|>$/ },
  lfm2_5: { name: 'LFM2.5', header: /<\|im_start\|>assistant\n$/, end: /<\|im_end\|>$/ },
  lfm2_5_keyed: { name: 'LFM2.5', header: /<\|im_start\|>assistant\n$/, end: /<\|im_end\|>$/ },
  lfm2_5_preserving: { name: 'LFM2.5', header: /<\|im_start\|>assistant\n(<think>)?$/, end: /<\|im_end\|>$/ },
  smollm3: {
    name: 'SmolLM3',
    header: /<\|im_start\|>assistant\n(<think>\n\n<\/think>\n)?$/,
    end: /<\|im_end\|>$/,
  },
}

/** Templates that render tools and calls by themselves. */
const RENDER_TOOLS = ['ministral3', 'lfm2_5_keyed', 'lfm2_5_preserving']

function encoder(family: Family, options: Partial<EncodeRowOptions> = {}): RowEncoder {
  const { own: chatTemplate, bos_token, eos_token, added_tokens } = family
  const tokenizerJson = { ...tokenizers.qwen2.tokenizer, added_tokens }
  const tokenizerConfig = { ...tokenizers.qwen2.config, bos_token, eos_token }
  return new RowEncoder({ tokenizerJson, tokenizerConfig, chatTemplate }, { maxSeqLength: 4096, ...options })
}

type Chat = Pick<Case, 'messages' | 'tools'>

const rowOf = ({ messages, tools }: Chat): MessagesRow => ({
  ...{ format: 'messages', messages, path: 'train.jsonl', line: 7 },
  ...(tools === null ? {} : { tools }),
})

function encoded(by: RowEncoder, chat: Chat): EncodedRow {
  const found = by.encode(rowOf(chat))
  if (typeof found === 'string') throw new Error(found)
  return found
}

/** The learned stretches, each with the text before it. */
function learned(by: RowEncoder, { inputIds, labels }: EncodedRow): { before: string; text: string }[] {
  const decode = (ids: Int32Array) => by.tokenizer.decode([...ids], { skipSpecialTokens: false })
  const starts = [...labels.keys()].filter(
    (at) => labels[at] !== IGNORE && (at === 0 || labels[at - 1] === IGNORE),
  )
  return starts.map((start) => {
    const length = labels.subarray(start).indexOf(IGNORE)
    const end = length < 0 ? labels.length : start + length
    return { before: decode(inputIds.slice(0, start)), text: decode(inputIds.slice(start, end)) }
  })
}

const asOwn = { prompting: { prompts: true, instructions: true, trainingTemplate: 'own' } } as const

describe.each(Object.keys(families))('chats for the template of %s', (key) => {
  const family = families[key] as Family
  const { name, header, end } = FORMS[key] as (typeof FORMS)[string]

  it.each(family.cases)(
    'have the ids of transformers, and every answer is learned to its end: $name',
    (one) => {
      const by = encoder(family)
      const row = encoded(by, one)
      expect(by.tokenizer.decode([...row.inputIds], { skipSpecialTokens: false })).toBe(one.text)
      expect(Array.from(row.inputIds)).toEqual(one.ids)
      const answers = one.messages.filter(({ role }) => role === 'assistant')
      const stretches = learned(by, row)
      expect(stretches).toHaveLength(answers.length)
      for (const [index, { before, text }] of stretches.entries()) {
        const { content, reasoning_content: thought = '', tool_calls = [] } = answers[index] as DatasetMessage
        expect(before).toMatch(header)
        expect(text).toMatch(end)
        expect(text).toContain(content)
        expect(text).toContain(thought)
        expect(text.split('weather')).toHaveLength(1 + (tool_calls as unknown[]).length)
      }
      expect(row.lostReasoning).toBe(0)
      expect(by.format).toMatchObject({ template: family.own, trainingTemplate: name })
    },
  )

  it('have answers whose texts are learned, but for their end', () => {
    const by = encoder(family)
    for (const { messages, tools } of family.cases) {
      const at = messages.findIndex(({ role }) => role === 'assistant')
      const chat = { messages: messages.slice(0, at + 1), tools }
      const text = learned(by, encoded(by, chat)).at(-1)?.text ?? ''
      expect(by.lastAnswer(rowOf(chat))).toBe(text.replace(end, ''))
    }
  })

  it('begin like the text of their beginning', () => {
    for (const { messages, tools, text } of family.cases) {
      const by = encoder(family)
      const starts = messages.flatMap(({ role }, at) => (role === 'user' && at > 1 ? [at] : []))
      for (const at of starts) {
        const { inputIds } = encoded(by, { messages: messages.slice(0, at), tools })
        const start = by.tokenizer.decode([...inputIds], { skipSpecialTokens: false })
        // A chat of OLMo 3 ends with another token than its turns.
        expect(text.startsWith(start.replace(/<\|endoftext\|>$/, ''))).toBe(true)
      }
    }
  })

  it('leave reasoning in the context where it is not learned', () => {
    for (const one of family.cases.filter(({ name }) => name.startsWith('reasoned'))) {
      const by = encoder(family, { trainOnReasoning: false })
      const row = encoded(by, one)
      expect(Array.from(row.inputIds)).toEqual(one.ids)
      for (const { text } of learned(by, row)) expect(text.replace(end, '')).toBe("It's dry.")
    }
  })

  it('are refused in parts, not changed, with training_template: own', () => {
    for (const one of family.cases) {
      const by = encoder(family, asOwn)
      const more =
        one.tools !== null || (one.name.startsWith('reasoned') && ['ministral3', 'olmo3'].includes(key))
      if (more && !(RENDER_TOOLS.includes(key) && one.tools !== null))
        expect(() => encoded(by, one)).toThrow('the chat template')
    }
  })

  it('are as they come where the template already reads them', () => {
    const special = { bos_token: family.bos_token, eos_token: family.eos_token }
    const found = (source: string) =>
      trainingTemplateFor(new ChatTemplate(source, special), special, TRAINING_TEMPLATES)?.family
    expect(found(family.own)).toBe(name)
    const reads = '{{ messages | tojson }}{{ (tools or []) | tojson }}'
    expect(found(`{# ${family.own.replaceAll(/[{}#%]/g, ' ')} #}${reads}`)).toBeUndefined()
  })
})

it.each(strings.cases)('a value becomes the text that it becomes in Python: $value', ({ value, text }) => {
  const template = new ChatTemplate(strings.template, {})
  expect(template.render([{ role: 'user', content: value }])).toBe(text)
})
