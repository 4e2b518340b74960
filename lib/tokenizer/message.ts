/** Messages of a chat. */

/** A message in OpenAI's chat format; templates may read further keys. */
export interface ChatMessage {
  role: string
  content?: unknown
  [key: string]: unknown
}

/** A validated message: the content is text, or null beside tool calls. */
export interface DatasetMessage extends ChatMessage {
  content: string | null
  /** 0: the model is not trained on this turn. */
  weight?: 0 | 1
}
