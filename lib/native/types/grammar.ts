/** Handles of grammars, which answers follow. They have no methods and need no disposal. */

declare const kind: unique symbol

/** The tokens of a tokenizer as a trie of their bytes. */
export interface NativeVocabulary {
  readonly [kind]: 'vocabulary'
}

/** A grammar over a vocabulary, shared by answers. */
export interface NativeGrammar {
  readonly [kind]: 'grammar'
}

/** The place of one answer in a grammar. */
export interface NativeMatcher {
  readonly [kind]: 'matcher'
}
