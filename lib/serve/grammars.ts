/** Grammars that answers follow: of `response_format`, over the tokens of the model that answers. */
import type { BaseModel } from '../base/base.js'
import { ConfigError } from '../core/errors.js'
import type { WorkerTokenizer } from '../data/worker-tokenizer.js'
import type { GrammarPart } from '../grammar/grammar.js'
import { addon, type NativeGrammar, type NativeVocabulary } from '../native/addon.js'
import { invalid } from './errors.js'

/** Grammars that stay compiled, of all models together. */
const MOST_KEPT = 64

const vocabularies = new WeakMap<object, Promise<NativeVocabulary>>()
const compiled = new Map<string, { of: NativeVocabulary; grammar: Promise<NativeGrammar> }>()

/**
 * @param param the key of the request that holds the schema
 * @throws {ApiError} for a schema that cannot be followed
 */
export async function grammarOf(base: BaseModel, part: GrammarPart, param: string): Promise<NativeGrammar> {
  const tokenizer = await base.tokenizer()
  let made = vocabularies.get(tokenizer)
  if (made === undefined) {
    made = tokenizer.table().then((table) => addon().createVocabulary(table))
    vocabularies.set(tokenizer, made)
  }
  const of = await made
  const key = JSON.stringify(part)
  const known = compiled.get(key)
  compiled.delete(key)
  const entry = known?.of === of ? known : { of, grammar: compile(tokenizer, of, part, param) }
  compiled.set(key, entry)
  entry.grammar.catch(() => {
    if (compiled.get(key) === entry) compiled.delete(key)
  })
  const [oldest] = compiled.keys()
  if (compiled.size > MOST_KEPT) compiled.delete(oldest as string)
  return entry.grammar
}

async function compile(
  tokenizer: WorkerTokenizer,
  of: NativeVocabulary,
  part: GrammarPart,
  param: string,
): Promise<NativeGrammar> {
  return addon().createGrammar(of, await tablesOf(tokenizer, part, param))
}

/** @throws {ApiError} for a schema that cannot be followed */
export async function expectGrammar(base: BaseModel, part: GrammarPart, param: string): Promise<void> {
  await tablesOf(await base.tokenizer(), part, param)
}

async function tablesOf(tokenizer: WorkerTokenizer, part: GrammarPart, param: string) {
  try {
    return await tokenizer.grammar(part)
  } catch (error) {
    if (error instanceof ConfigError) throw invalid(param, error.message, 'invalid_json_schema')
    throw error
  }
}
