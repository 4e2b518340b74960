/** What rows of chats become by templates of the kinds that real models have. */
import { mkdtempSync, readFileSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { DataError } from '../../../lib/core/errors.js'
import type { MessagesRow } from '../../../lib/data/dataset.js'
import { RowEncoder } from '../../../lib/data/encode.js'
import { type EncodeRowOptions, IGNORE } from '../../../lib/data/encoded-row.js'
import { withTemplateFile } from '../../../lib/data/template-file.js'
import type { DatasetMessage } from '../../../lib/tokenizer/message.js'
import type { TokenizerSource } from '../../../lib/tokenizer/source.js'
import { promptingOf } from '../../../lib/train/rows/prompting.js'

const { tokenizers } = JSON.parse(readFileSync('test/parity/tokenizer_small.json', 'utf8'))
const { tokenizer, config } = tokenizers.qwen2
const added = ['<s>', '</s>', '[INST]', '[/INST]'].map((content, index) => ({
  ...{ id: 1000 + index, content, special: true, normalized: false },
  ...{ single_word: false, lstrip: false, rstrip: false },
}))

function source(chatTemplate?: string): TokenizerSource {
  return {
    tokenizerJson: { ...tokenizer, added_tokens: [...tokenizer.added_tokens, ...added] },
    tokenizerConfig: { ...config, bos_token: '<s>', eos_token: '</s>' },
    ...(chatTemplate === undefined ? {} : { chatTemplate }),
  }
}

const row = (...messages: DatasetMessage[]): MessagesRow => ({
  ...{ format: 'messages', messages, path: 'train.jsonl', line: 7 },
})

const QUESTION = { role: 'user', content: 'Go on:' }
const SYSTEM = { role: 'system', content: 'Be brief.' }
const INDENTED = { role: 'assistant', content: '    return x + 1' }
const ANSWER = { role: 'assistant', content: 'It is 4.' }
const REASONED = { ...ANSWER, reasoning_content: 'Two and two.' }

/** The text of a row, and the stretch from its first learned token to its last. */
function encoded(by: RowEncoder, chat: MessagesRow): { text: string; learned: string } {
  const found = by.encode(chat)
  if (typeof found === 'string') throw new Error(found)
  const decode = (ids: Iterable<number>) => by.tokenizer.decode([...ids], { skipSpecialTokens: false })
  const learned = found.inputIds.filter((_, index) => found.labels[index] !== IGNORE)
  return { text: decode(found.inputIds), learned: decode(learned) }
}

const encoder = (template: string, options: Partial<EncodeRowOptions> = {}) =>
  new RowEncoder(source(template), { maxSeqLength: 4096, ...options })

const parity = (name: string) => readFileSync(`test/parity/${name}`, 'utf8')

describe('the white space that an answer begins with', () => {
  it.each([
    ['a training template', 'chat-templates/qwen3.jinja'],
    ['a template with a block of reasoning', 'chat-constructs/thinking.jinja'],
  ])('is trained on with %s', (_, name) => {
    const by = encoder(parity(name))
    expect(encoded(by, row(QUESTION, INDENTED)).learned).toContain('    return x + 1')
    const reasoned = { ...INDENTED, reasoning_content: 'Add one.' }
    expect(encoded(by, row(QUESTION, reasoned)).learned).toContain('</think>\n\n    return x + 1')
    const tagged = { ...INDENTED, content: `<think>\nAdd one.\n</think>\n\n${INDENTED.content}` }
    expect(encoded(by, row(QUESTION, tagged)).learned).toContain('</think>\n\n    return x + 1')
  })
})

/** A template that shows no reasoning, and whose prompts open a block or close it at once. */
const DROPPING = `{{ bos_token }}{% for message in messages %}
{%- if message.role == 'user' %}<|User|>{{ message.content }}
{%- else %}<|Assistant|>{{ message.content.split('</think>')[-1] }}{{ eos_token }}{% endif %}
{%- endfor %}
{%- if add_generation_prompt %}<|Assistant|><think>
{% if not enable_thinking %}</think>{% endif %}{% endif %}`

describe('a template that leaves out reasoning, and whose prompts open its block', () => {
  it.each([
    ['under a key', REASONED, '"reasoning_content"'],
    [
      'in the content',
      { ...ANSWER, content: '<think>\nTwo and two.\n</think>\n\nIt is 4.' },
      '<think> in "content"',
    ],
  ])('refuses reasoning %s', (_, answer, where) => {
    const encode = () => encoder(DROPPING).encode(row(QUESTION, answer))
    expect(encode).toThrow(DataError)
    expect(encode).toThrow(`the chat template does not render the reasoning (${where}) of messages[1]`)
  })

  it('takes answers without reasoning as they are', () => {
    expect(encoded(encoder(DROPPING), row(QUESTION, ANSWER)).text).toBe(
      '<s><|User|>Go on:<|Assistant|>It is 4.</s>',
    )
  })
})

/** A template that shows the system prompt in the last message, if that is a question. */
const MISTRAL = `{%- if messages[0].role == 'system' %}{% set system_message = messages[0].content %}{% set messages = messages[1:] %}{% endif %}
{{- bos_token }}
{%- for message in messages %}
    {%- if message.role == 'user' %}
        {%- if tools is not none and loop.last %}{{ '[AVAILABLE_TOOLS]' + tools | tojson + '[/AVAILABLE_TOOLS]' }}{% endif %}
        {%- if loop.last and system_message is defined %}
            {{- '[INST]' + system_message + '\\n\\n' + message.content + '[/INST]' }}
        {%- else %}
            {{- '[INST]' + message.content + '[/INST]' }}
        {%- endif %}
    {%- elif message.tool_calls is defined %}
        {{- '[TOOL_CALLS]' + message.tool_calls | tojson + eos_token }}
    {%- else %}
        {{- message.content + eos_token }}
    {%- endif %}
{%- endfor %}`

describe("a template of Mistral's, which shows the system prompt in the last question only", () => {
  const more = { role: 'user', content: 'And 3?' }

  it('trains on one answer as the model is asked', () => {
    const { text, learned } = encoded(encoder(MISTRAL), row(SYSTEM, QUESTION, ANSWER))
    expect(text).toBe('<s>[INST]Be brief.\n\nGo on:[/INST]It is 4.</s>')
    expect(learned).toBe('It is 4.</s>')
  })

  it('trains on the last answer of several, and refuses the earlier ones, which were given otherwise', () => {
    const chat = row(SYSTEM, QUESTION, ANSWER, more, INDENTED)
    const { text, learned } = encoded(encoder(MISTRAL, { trainOn: 'last' }), chat)
    expect(text).toBe(
      '<s>[INST]Go on:[/INST]It is 4.</s>[INST]Be brief.\n\nAnd 3?[/INST]    return x + 1</s>',
    )
    expect(learned).toBe('    return x + 1</s>')
    expect(() => encoder(MISTRAL).encode(chat)).toThrow(
      /renders what comes before message 2 differently without the rest of the chat; use train_on: last, a template/,
    )
    const context = row(SYSTEM, QUESTION, { ...ANSWER, weight: 0 }, more, INDENTED)
    expect(encoded(encoder(MISTRAL), context)).toEqual({ text, learned })
  })
})

describe('a template in a file', () => {
  const path = join(mkdtempSync(join(tmpdir(), 'lowrank-template-')), 'mine.jinja')
  writeFileSync(path, parity('chat-templates/qwen3.jinja'))
  const chat = row(QUESTION, REASONED, QUESTION, { ...REASONED, content: 'Five.' })

  async function byFile(trainingTemplate?: 'own'): Promise<RowEncoder> {
    const prompting = promptingOf(path, trainingTemplate)
    return new RowEncoder(source(), await withTemplateFile({ maxSeqLength: 4096, prompting }))
  }

  it("gets the training template that the same text in a tokenizer's files gets", async () => {
    const [own, file] = [encoder(parity('chat-templates/qwen3.jinja')), await byFile()]
    expect(encoded(file, chat)).toEqual(encoded(own, chat))
    expect(file.format?.trainingTemplate).toBe('Qwen3')
    expect(encoded(file, chat).learned.match(/Two and two/g)).toHaveLength(2)
  })

  it('stays as it is if that is asked for', async () => {
    const file = await byFile('own')
    const [, , , last] = chat.messages
    expect(encoded(file, row(QUESTION, last as DatasetMessage)).learned).toContain('Two and two.')
    expect(file.format?.trainingTemplate).toBeUndefined()
  })
})
