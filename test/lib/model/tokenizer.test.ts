import { describe, expect, test } from 'vitest'
import { ConfigError, DataError } from '../../../lib/core/errors.js'
import type { ChatMessage } from '../../../lib/index.js'
import { tinyLoader } from '../train/tiny-models.js'

const load = tinyLoader()
const chat: ChatMessage[] = [
  { role: 'user', content: 'Hi' },
  { role: 'assistant', content: 'Yo' },
  { role: 'user', content: 'And?' },
  { role: 'assistant', content: 'No' },
]

describe('model.tokenizer', () => {
  test('encodes and decodes texts', async () => {
    const { tokenizer } = await load()
    const ids = await tokenizer.encode('Grüße<|im_end|>')
    expect(await tokenizer.decode(ids)).toBe('Grüße<|im_end|>')
    expect(await tokenizer.decode([...ids], { skipSpecialTokens: true })).toBe('Grüße')
    expect(await tokenizer.decode([])).toBe('')
    await expect(tokenizer.decode([3, 99999])).rejects.toThrow('tokens.1 is 99999')
    await expect(tokenizer.encode(7 as never)).rejects.toThrow(ConfigError)
  })

  test('tells its vocabulary and special tokens', async () => {
    const { tokenizer } = await load()
    const info = await tokenizer.info()
    expect(info).toMatchObject({ eosTokenIds: [2], specialTokens: { eos_token: '<|im_end|>' } })
    expect(info.vocabSize).toBeGreaterThan(200)
    expect(info.chatTemplate).toContain('add_generation_prompt')
  })

  test('renders chats by the template, or by another', async () => {
    const { tokenizer } = await load()
    expect(await tokenizer.applyChatTemplate(chat.slice(0, 1))).toBe(
      '<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n',
    )
    const options = { addGenerationPrompt: false, chatTemplate: "{{ messages[0]['content'] }}!" }
    expect(await tokenizer.applyChatTemplate(chat, options)).toBe('Hi!')
    await expect(tokenizer.applyChatTemplate('Hi' as never)).rejects.toThrow(
      'messages is "Hi", expected a list',
    )
  })

  test('masks what the assistant says, with its ends', async () => {
    const { tokenizer } = await load()
    const learned = async (options = {}) => {
      const { tokens, assistantMask } = await tokenizer.encodeChat(chat, options)
      expect(assistantMask).toHaveLength(tokens.length)
      return tokenizer.decode([...tokens].filter((_, t) => assistantMask[t] === 1))
    }
    expect(await learned()).toBe('Yo<|im_end|>No<|im_end|>')
    expect(await learned({ trainOn: 'last' })).toBe('No<|im_end|>')
    expect((await tokenizer.encodeChat(chat, { maxSeqLength: 30 })).tokens).toHaveLength(30)
    await expect(tokenizer.encodeChat(chat.slice(0, 1))).rejects.toThrow(DataError)
  })
})
