/**
 * Source of a model's tokenizer. It is read where it is needed (the text worker reads its own), since
 * vocabularies are large and their copies in JavaScript count as memory of a run.
 */

/** Parts of a tokenizer, as plain data that can be sent to a worker. */
export interface TokenizerSource {
  /** Parsed tokenizer.json. */
  tokenizerJson: unknown
  /** Parsed tokenizer_config.json, merged with special_tokens_map.json. */
  tokenizerConfig?: Record<string, unknown>
  /** The default chat template. */
  chatTemplate?: string
  /** Templates by name, e.g. `tool_use`, which is used for chats with tools. */
  namedTemplates?: Record<string, string>
  /** Ids of tokens that end generation, from generation_config.json or config.json. */
  eosTokenIds?: number[]
  /** Name of the source in messages. */
  where?: string
}

/** Path of a model folder or GGUF file. */
export interface TokenizerOfModel {
  kind: 'folder' | 'gguf'
  path: string
}

/** The source with another template for all chats; unchanged if that is already its template. */
export function withTemplate(source: TokenizerSource, template: string | null | undefined): TokenizerSource {
  if (template == null || template === source.chatTemplate) return source
  const { namedTemplates: _, ...rest } = source
  return { ...rest, chatTemplate: template }
}
