/** Messages of a chat. */

export const ROLES = ['system', 'developer', 'user', 'assistant', 'tool'] as const satisfies readonly Role[]
/** Role of a message, in data and in prompts. `developer` is the same as `system`. */
export type Role = 'system' | 'developer' | 'user' | 'assistant' | 'tool'

/** A message as a template gets it, which may have roles of its own. */
export interface TemplateMessage {
  role: string
  content?: unknown
  [key: string]: unknown
}

/** A message of a prompt, in OpenAI's chat format; templates may read further keys. */
export interface ChatMessage extends TemplateMessage {
  role: Role
}

/** A validated message: the content is text, or null beside tool calls. */
export interface DatasetMessage extends TemplateMessage {
  content: string | null
  /** 0: the model is not trained on this turn. */
  weight?: 0 | 1
}
