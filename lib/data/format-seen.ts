/** Prompt format of the rows of a dataset read so far. */
import type { PromptFormat } from '../formats/prompt-format.js'

/** Properties shared by the rows of a dataset. */
export class FormatSeen {
  form: PromptFormat['form'] | undefined
  system: string | null = null
  prefix = ''
  suffix = ''
  /** True if any row is a chat. */
  chats = false
  /** True if the prompt of every answer so far says that there is no reasoning. */
  unreasoned = false
  #answers = 0
  /** True if the format has changed since this was last reset. */
  changed = false

  /** @param unreasoned whether the prompt says that the answer has no reasoning */
  addAnswer(unreasoned: boolean): void {
    const now = unreasoned && (this.#answers === 0 || this.unreasoned)
    this.#answers++
    this.changed ||= now !== this.unreasoned
    this.unreasoned = now
  }

  /** @param row the system prompt of a chat, or the texts around a raw prompt */
  add(row: { system: string | null } | { prefix: string; suffix: string }): void {
    const { form, system, prefix, suffix, chats } = this
    const first = form === undefined
    if ('system' in row) {
      // If any row is raw text, the format of all is raw.
      this.form ??= 'chat'
      this.chats = true
      this.system = first || system === row.system ? row.system : null
    } else {
      this.form = 'raw'
      const same = first || (prefix === row.prefix && suffix === row.suffix)
      this.prefix = same ? row.prefix : ''
      this.suffix = same ? row.suffix : ''
    }
    this.changed ||=
      form !== this.form ||
      system !== this.system ||
      prefix !== this.prefix ||
      suffix !== this.suffix ||
      chats !== this.chats
  }
}
