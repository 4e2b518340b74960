/** Chats as rows, encoded by a small tokenizer with any chat template. */
import { readFileSync } from 'node:fs'
import type { MessagesRow } from '../../../lib/data/dataset.js'
import { RowEncoder } from '../../../lib/data/encode.js'
import type { EncodeRowOptions } from '../../../lib/data/encoded-row.js'
import type { DatasetMessage } from '../../../lib/tokenizer/message.js'

const { tokenizers } = JSON.parse(readFileSync('test/parity/tokenizer_small.json', 'utf8'))

export function sourceOf(chatTemplate: string) {
  const { tokenizer: tokenizerJson, config: tokenizerConfig } = tokenizers.qwen2
  return { tokenizerJson, tokenizerConfig, chatTemplate }
}

export function encoder(chatTemplate: string, options: Partial<EncodeRowOptions> = {}): RowEncoder {
  return new RowEncoder(sourceOf(chatTemplate), { maxSeqLength: 4096, ...options })
}

export function rowOf({
  messages,
  tools,
}: {
  messages: DatasetMessage[]
  tools: unknown[] | null
}): MessagesRow {
  return {
    ...{ format: 'messages', messages, path: 'train.jsonl', line: 7 },
    ...(tools === null ? {} : { tools }),
  }
}

export function decode(by: RowEncoder, ids: Iterable<number>): string {
  const stream = by.tokenizer.decodeStream({ skipSpecialTokens: false, continues: true })
  return Array.from(ids, (id) => stream.push(id)).join('') + stream.end()
}

export const user = (content: string): DatasetMessage => ({ role: 'user', content })

export const answer = (content: string, reasoning?: string): DatasetMessage => ({
  role: 'assistant',
  content,
  ...(reasoning === undefined ? {} : { reasoning_content: reasoning }),
})
