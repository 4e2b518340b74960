/**
 * Source of a model's tokenizer. It is read when and where it is needed (the text worker reads its
 * own): vocabularies are large, and what JavaScript holds of them counts as memory of a run.
 */

/** Parts of a tokenizer: plain data that can be sent to a worker. */
export interface TokenizerSource {
  /** Parsed tokenizer.json. */
  tokenizerJson: unknown
  /** Parsed tokenizer_config.json, with what special_tokens_map.json adds. */
  tokenizerConfig?: Record<string, unknown>
  /** The default chat template. */
  chatTemplate?: string
  /** Templates by name, e.g. `tool_use`, which is taken when tools are given. */
  namedTemplates?: Record<string, string>
  /** Ids that end a generation, from generation_config.json or config.json. */
  eosTokenIds?: number[]
  /** Names the source in messages. */
  where?: string
}

/** A model folder or GGUF file, by its path. */
export interface TokenizerOfModel {
  kind: 'folder' | 'gguf'
  path: string
}

/** The source with another template for all chats, or itself where that is its own already. */
export function withTemplate(source: TokenizerSource, template: string | null | undefined): TokenizerSource {
  if (template == null || template === source.chatTemplate) return source
  const { namedTemplates: _, ...rest } = source
  return { ...rest, chatTemplate: template }
}
