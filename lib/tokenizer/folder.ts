/** Reads the tokenizer and chat templates of a Hugging Face model folder. */

import { existsSync } from 'node:fs'
import { readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { FileFormatError, UnsupportedError } from '../core/errors.js'
import { readJsonObject, readText } from '../io/input.js'
import { fileInside, fileInsideIfAny } from '../io/inside.js'
import type { TokenizerSource } from './source.js'

/** A vocabulary of 260,000 tokens takes about 30 MB. */
const LARGEST_TOKENIZER = 128 << 20
const LARGEST_CONFIG = 16 << 20
const LARGEST_TEMPLATE = 1 << 20
const ADDITIONAL = 'additional_chat_templates'

/**
 * Reads tokenizer.json, tokenizer_config.json, special_tokens_map.json, the chat templates from all their
 * possible places, and the end tokens from generation_config.json or config.json.
 * @throws {FileFormatError} when a file is malformed or tokenizer.json is missing; UnsupportedError when the
 * folder has only a tokenizer in an older format
 */
export async function tokenizerSourceFromFolder(folder: string): Promise<TokenizerSource> {
  const where = await fileInsideIfAny(folder, 'tokenizer.json')
  if (where === undefined) throw missing(folder)
  const tokenizerJson = await readJsonObject(where, LARGEST_TOKENIZER)
  const optional = async (name: string) => {
    const path = await fileInsideIfAny(folder, name)
    return path === undefined ? {} : await readJsonObject(path, LARGEST_CONFIG)
  }
  const tokenizerConfig = {
    ...(await optional('special_tokens_map.json')),
    ...withoutNulls(await optional('tokenizer_config.json')),
  }
  const generation = await optional('generation_config.json')
  const eos = generation.eos_token_id ?? (await optional('config.json')).eos_token_id
  const templates = await chatTemplates(folder, tokenizerConfig.chat_template)
  const { default: chatTemplate, ...namedTemplates } = templates
  return {
    tokenizerJson,
    tokenizerConfig,
    ...(chatTemplate === undefined ? {} : { chatTemplate }),
    namedTemplates,
    eosTokenIds: [eos].flat().filter((id): id is number => Number.isInteger(id)),
    where,
  }
}

function missing(folder: string): Error {
  const where = join(folder, 'tokenizer.json')
  const older = ['tokenizer.model', 'vocab.json', 'tokenizer.tiktoken'].find((name) =>
    existsSync(join(folder, name)),
  )
  if (older === undefined) {
    return new FileFormatError(`${where} does not exist; a model folder needs it`, { path: where })
  }
  return new UnsupportedError(
    `${folder} has its tokenizer only as ${older}; convert it with Python: AutoTokenizer.from_pretrained(folder).save_pretrained(folder) writes the required tokenizer.json`,
    { path: where, found: older },
  )
}

function withoutNulls(config: Record<string, unknown>): Record<string, unknown> {
  return Object.fromEntries(Object.entries(config).filter(([, value]) => value !== null))
}

/**
 * Templates by name. Files take precedence over tokenizer_config.json, which has a string or a list of `{name,
 * template}`.
 */
async function chatTemplates(folder: string, configured: unknown): Promise<Record<string, string>> {
  const templates: Record<string, string> = {}
  if (typeof configured === 'string') templates.default = configured
  if (Array.isArray(configured)) {
    for (const { name, template } of configured as { name?: unknown; template?: unknown }[]) {
      if (typeof name === 'string' && typeof template === 'string') templates[name] = template
    }
  }
  const additional = await fileInsideIfAny(folder, ADDITIONAL)
  if (additional !== undefined) {
    for (const file of (await readdir(additional)).sort()) {
      if (!file.endsWith('.jinja')) continue
      const path = await fileInside(folder, join(ADDITIONAL, file))
      templates[file.slice(0, -'.jinja'.length)] = await readText(path, LARGEST_TEMPLATE)
    }
  }
  const file = await fileInsideIfAny(folder, 'chat_template.jinja')
  if (file !== undefined) templates.default = await readText(file, LARGEST_TEMPLATE)
  return templates
}
