/** Messages of a chat. */

/** One message, in the form of OpenAI's chat files; templates may read further keys. */
export interface ChatMessage {
  role: string
  content?: unknown
  [key: string]: unknown
}

/** A message that was checked: the content is text, or absent beside tool calls. */
export interface DatasetMessage extends ChatMessage {
  content: string | null
  /** 0: the model does not learn this turn. */
  weight?: 0 | 1
}
