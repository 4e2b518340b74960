/** Grammars that answers follow: of `response_format`, over the tokens of the model that answers. */
import type { BaseModel } from '../base/base.js'
import { compileGrammar, type GrammarPart } from '../grammar/grammar.js'
import { SchemaError } from '../grammar/schema-error.js'
import { addon, type NativeGrammar, type NativeVocabulary } from '../native/addon.js'
import { invalid } from './errors.js'

/** Grammars that stay compiled, of all models together. */
const MOST_KEPT = 64

const vocabularies = new WeakMap<object, Promise<NativeVocabulary>>()
const compiled = new Map<string, { of: NativeVocabulary; grammar: NativeGrammar }>()

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
  const entry = known?.of === of ? known : { of, grammar: addon().createGrammar(of, tablesOf(part, param)) }
  compiled.set(key, entry)
  const [oldest] = compiled.keys()
  if (compiled.size > MOST_KEPT) compiled.delete(oldest as string)
  return entry.grammar
}

/** @throws {ApiError} for a schema that cannot be followed */
export function expectGrammar(part: GrammarPart, param: string): void {
  tablesOf(part, param)
}

function tablesOf(part: GrammarPart, param: string) {
  try {
    return compileGrammar(part)
  } catch (error) {
    if (error instanceof SchemaError) throw invalid(param, error.message, 'invalid_json_schema')
    throw error
  }
}
