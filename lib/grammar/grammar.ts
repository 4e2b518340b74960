/** Grammars of answers: texts and JSON schemas, one after the other or one of several. */
import { ConfigError } from '../core/errors.js'
import type { GrammarTables } from '../native/addon.js'
import type { Nfa } from './automaton.js'
import { Rules } from './rules.js'
import { Schemas } from './schema.js'
import { SchemaError } from './schema-error.js'
import { textWithout } from './strings.js'

/** A part of a grammar. */
export type GrammarPart =
  /** The bytes of a text. */
  | { kind: 'text'; text: string }
  /** A special token, which no text has. */
  | { kind: 'token'; id: number }
  | { kind: 'schema'; schema: unknown }
  /** Any text in which `stop` is not. */
  | { kind: 'without'; stop: string }
  | { kind: 'all'; parts: readonly GrammarPart[] }
  | { kind: 'one'; options: readonly GrammarPart[] }

/** Marks a special token among bytes: no text in UTF-8 has this byte. */
export const TOKEN_BYTE = 0xff

/**
 * @throws {SchemaError} for a schema with a keyword that is not supported, named by its path, that no value satisfies, or
 * that is too complex
 */
export function compileGrammar(part: GrammarPart): GrammarTables {
  const rules = new Rules()
  try {
    const root = rules.add('#', (nfa, from) => partOf(rules, nfa, from, part))
    return rules.tables(root)
  } catch (error) {
    if (error instanceof SchemaError || !(error instanceof ConfigError)) throw error
    throw new SchemaError('#', error.message)
  }
}

function partOf(rules: Rules, nfa: Nfa, from: number, part: GrammarPart): number {
  switch (part.kind) {
    case 'text':
      return nfa.text(from, part.text)
    case 'token': {
      const bytes = [TOKEN_BYTE, ...[0, 8, 16, 24].map((shift) => (part.id >> shift) & 255)]
      return bytes.reduce((at, byte) => nfa.after(at, [[byte, byte]]), from)
    }
    case 'schema':
      return new Schemas(rules, part.schema).value(nfa, from, part.schema, '#')
    case 'without':
      return textWithout(nfa, from, part.stop)
    case 'all':
      return part.parts.reduce((at, one) => partOf(rules, nfa, at, one), from)
    case 'one':
      return nfa.choice(
        from,
        part.options.map((one) => (at: number) => partOf(rules, nfa, at, one)),
      )
  }
}
