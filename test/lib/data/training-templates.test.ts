/** Templates to train with, against the models' own and against what transformers renders from both. */

import { readFileSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import type { RowEncoder } from '../../../lib/data/encode.js'
import { type EncodedRow, type EncodeRowOptions, IGNORE } from '../../../lib/data/encoded-row.js'
import { TRAINING_TEMPLATES } from '../../../lib/models/index.js'
import { ChatTemplate } from '../../../lib/tokenizer/chat-template.js'
import type { DatasetMessage } from '../../../lib/tokenizer/message.js'
import { trainingTemplateFor } from '../../../lib/tokenizer/training-templates.js'
import { askedOf } from '../../../lib/train/rows/prompting.js'
import { answer, decode, encoder, rowOf, user } from './chat-rows.js'

interface Case {
  name: string
  messages: DatasetMessage[]
  tools: unknown[] | null
  own: string
  prompt: string
  unreasoned_prompt: string
  training: { text: string; spans: [number, number][]; ids: number[]; mask: number[] }
}

const parity = (name: string) => JSON.parse(readFileSync(`test/parity/${name}`, 'utf8'))
const { families } = parity('training_templates.json') as {
  families: Record<string, { own: string; training: string; cases: Case[] }>
}
const NAMES: Record<string, string> = {
  qwen3: 'Qwen3',
  qwen3_5: 'Qwen3.5',
  qwen3_5_small: 'Qwen3.5',
  qwen3_6: 'Qwen3.6',
}
const END = '<|im_end|>'

function encoded(by: RowEncoder, row: Pick<Case, 'messages' | 'tools'>): EncodedRow {
  const found = by.encode(rowOf(row))
  if (typeof found === 'string') throw new Error(found)
  return found
}

/** The texts of the stretches of tokens that are learned. */
function learned(by: RowEncoder, { inputIds, labels }: EncodedRow): string[] {
  const stretches: number[][] = []
  labels.forEach((label, index) => {
    if (label === IGNORE) return
    if (index === 0 || labels[index - 1] === IGNORE) stretches.push([])
    stretches.at(-1)?.push(inputIds[index] as number)
  })
  return stretches.map((ids) => decode(by, ids))
}

const chat = (...messages: DatasetMessage[]) => ({ messages, tools: null })

describe.each(Object.keys(families))('the training template of %s', (family) => {
  const { own, training, cases } = families[family] as (typeof families)[string]
  const template = new ChatTemplate(training, {})
  // Prompts of the others open the block of the reasoning.
  const opening = family === 'qwen3' ? '<think>\n' : ''

  it('is found by the text of the model’s own, and is the one that transformers was given', () => {
    const found = trainingTemplateFor(new ChatTemplate(own, {}), {}, TRAINING_TEMPLATES)
    expect(found).toMatchObject({ family: NAMES[family] })
    expect(found?.template.source).toBe(training)
  })

  it.each(cases)('gives the text, the parts, and the ids of transformers: $name', (one) => {
    const { messages, tools, training: golden } = one
    const { text, spans } = template.renderWithSpans(messages, tools === null ? {} : { tools })
    expect(text).toBe(golden.text)
    expect(spans.map(({ start, end }) => [start, end])).toEqual(golden.spans)
    const row = encoded(encoder(own, { trainEmptyThink: opening !== '' }), one)
    expect(Array.from(row.inputIds)).toEqual(golden.ids)
    // The empty block is not learned where a part of it belongs to the prompt.
    if (opening === '' && text.includes('<think>\n\n</think>')) return
    expect(Array.from(row.labels, (label) => Number(label !== IGNORE))).toEqual(golden.mask)
  })

  it.each(cases)('begins the text of a chat with the text of its beginning: $name', ({ messages, tools }) => {
    const options = tools === null ? {} : { tools }
    const whole = template.render(messages, options)
    for (const [index, { role }] of messages.entries()) {
      // Results of calls that follow one another are one turn.
      if (role === 'tool' && messages[index + 1]?.role === 'tool') continue
      expect(whole.startsWith(template.render(messages.slice(0, index + 1), options))).toBe(true)
    }
  })

  it.each(cases.filter(({ messages }) => messages.filter(({ role }) => role === 'assistant').length === 1))(
    'learns from where the prompt of the model ends, to the end of the turn: $name',
    (one) => {
      const by = encoder(own)
      const row = encoded(by, one)
      const first = row.labels.findIndex((label) => label !== IGNORE)
      const reasoned = one.messages.at(-1)?.reasoning_content !== undefined
      expect(decode(by, row.inputIds.slice(0, first))).toBe(reasoned ? one.prompt : one.unreasoned_prompt)
      expect(learned(by, row)).toEqual([expect.stringMatching(/<\|im_end\|>$/)])
    },
  )

  it('keeps the reasoning of every turn', () => {
    const by = encoder(own)
    const row = encoded(by, chat(user('2?'), answer('two', 'Count.'), user('3?'), answer('three', 'Again.')))
    expect(learned(by, row)).toEqual([
      `${opening}Count.\n</think>\n\ntwo${END}`,
      `${opening}Again.\n</think>\n\nthree${END}`,
    ])
    expect(row.lostReasoning).toBe(0)
  })

  it('does not learn the empty block of an answer without reasoning, unless it is asked to', () => {
    const row = chat(user('2?'), answer('two'), user('3?'), answer('three', 'Again.'))
    const by = encoder(own)
    const usual = encoded(by, row)
    expect(learned(by, usual)).toEqual([`two${END}`, `${opening}Again.\n</think>\n\nthree${END}`])
    const all = encoded(encoder(own, { trainEmptyThink: true }), row)
    expect(decode(by, all.inputIds)).toBe(decode(by, usual.inputIds))
    expect(learned(by, all)[0]).toBe(`${opening}\n</think>\n\ntwo${END}`)
  })

  it('leaves the reasoning in the context where it is not learned', () => {
    const row = chat(user('2?'), answer('two', 'Count.'), user('3?'), answer('three'))
    const by = encoder(own, { trainOnReasoning: false })
    const found = encoded(by, row)
    expect(found.inputIds).toEqual(encoded(encoder(own), row).inputIds)
    expect(learned(by, found)).toEqual([`two${END}`, `three${END}`])
  })

  it('is told with the format, as is that no answer has reasoning', () => {
    const formatOf = (rows: ReturnType<typeof chat>[], options: Partial<EncodeRowOptions> = {}) => {
      const by = encoder(own, options)
      for (const row of rows) encoded(by, row)
      return by.format
    }
    const [plain, reasoned] = [chat(user('2?'), answer('two')), chat(user('3?'), answer('three', 'Again.'))]
    expect(formatOf([plain, plain])).toMatchObject({
      template: own,
      trainingTemplate: NAMES[family],
      thinking: false,
    })
    for (const rows of [[plain, reasoned], [reasoned, plain], [reasoned]])
      expect(formatOf(rows)).not.toHaveProperty('thinking')
    expect(formatOf([plain], { trainEmptyThink: true })).not.toHaveProperty('thinking')
    // Prompts after the training open answers of the same kind.
    const asked = (options: object) =>
      new ChatTemplate(own, {}).render([user('2?')], { addGenerationPrompt: true, ...options })
    for (const [rows, thinks] of [
      [[plain], false],
      [[plain, reasoned], true],
    ] as const)
      expect(asked(askedOf(formatOf([...rows])))).toBe(asked({ variables: { enable_thinking: thinks } }))
  })

  it('is not used where it is not wanted, or does not equal the template of the model', () => {
    const row = chat(user('2?'), answer('two', 'Count.'), user('3?'), answer('three', 'Again.'))
    const asIs = encoder(own, { prompting: { prompts: true, instructions: true, trainingTemplate: 'own' } })
    expect(asIs.format ?? encoded(asIs, row)).not.toHaveProperty('trainingTemplate')
    const changed = own.replaceAll('<|im_start|>', '<|im_start|> ')
    expect(changed).not.toBe(own)
    expect(trainingTemplateFor(new ChatTemplate(changed, {}), {}, TRAINING_TEMPLATES)).toBeUndefined()
    expect(asIs.format).not.toHaveProperty('trainingTemplate')
  })
})

it('no training template takes the place of a template without reasoning', () => {
  const { templates } = parity('tokenizer_chat.json') as { templates: Record<string, { text: string }> }
  for (const { text } of Object.values(templates))
    expect(trainingTemplateFor(new ChatTemplate(text, {}), {}, TRAINING_TEMPLATES)).toBeUndefined()
})
