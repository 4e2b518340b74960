import { describe, expect, it } from 'vitest'
import { checkedPrompt } from '../../../../lib/train/answers/generate.js'

describe('messages of a prompt', () => {
  const user = { role: 'user', content: 'Hello' }

  it('have the roles of data', () => {
    const roles = ['system', 'user', 'assistant', 'tool'].map((role) => ({ role, content: 'a' }))
    expect(checkedPrompt(roles, 'generate()')).toEqual(roles)
    expect(() => checkedPrompt([user, { role: 'bot', content: 'Hi' }], 'generate()')).toThrow(
      'generate(): the role of prompt[1] must be one of system, developer, user, assistant, tool, not "bot"',
    )
    expect(() => checkedPrompt([{ role: 'asistant', content: 'Hi' }], 'chat()', 'messages')).toThrow(
      /chat\(\): the role of messages\[0\] .*; did you mean "assistant"\?/,
    )
  })

  it('have a content, or calls of tools', () => {
    expect(() => checkedPrompt([{ role: 'user' }], 'generate()')).toThrow(
      'generate(): prompt[0] has no "content", the text of the message',
    )
    expect(() => checkedPrompt([user, { role: 'assistant', content: null }], 'send()')).toThrow(
      'send(): prompt[1] has no "content"',
    )
    const call = {
      role: 'assistant',
      content: null,
      tool_calls: [{ function: { name: 'f', arguments: {} } }],
    }
    expect(checkedPrompt([user, call], 'generate()')).toEqual([user, call])
  })

  it('of a developer are those of the system, as in data', () => {
    expect(checkedPrompt([{ role: 'developer', content: 'Be brief.' }, user], 'generate()')).toEqual([
      { role: 'system', content: 'Be brief.' },
      user,
    ])
  })
})
