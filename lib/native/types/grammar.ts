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

/** All tokens by id. */
export interface TokenTable {
  /** The bytes of all tokens, one after the other. */
  bytes: Uint8Array
  /** Where each token ends in them; a token without bytes is never allowed. */
  ends: Int32Array
  /** 1 for special tokens, which texts do not have. */
  special: Uint8Array
}

/** States as lists of edges and of calls; those of state `s` are `begin[s]` to `begin[s + 1] - 1`. */
export interface GrammarTables {
  start: number
  edgeBegin: Int32Array
  /** Bytes `edgeLow[e]` to `edgeHigh[e]`, after which `edgeTo[e]` is next; in ascending order, without overlaps. */
  edgeLow: Int32Array
  edgeHigh: Int32Array
  edgeTo: Int32Array
  callBegin: Int32Array
  /** A rule begins at `callStart[c]`, and at its end `callTo[c]` is next. */
  callStart: Int32Array
  callTo: Int32Array
  /** 1 where a rule may end. */
  accepts: Int32Array
}
