/**
 * How models of a family are stored in GGUF files, for reading. Each family describes it in its own file; formats stay
 * below the families and get these records as arguments.
 */
import type { GgufTensor } from './gguf.js'
import type { GgufKeys } from './gguf-metadata.js'
import type { TensorNames } from './gguf-names.js'
import type { DeltaRuleSizes } from './head-order.js'
import type { TensorSource } from './tensor-source.js'

export interface GgufForm {
  /** `general.architecture`, which is also the prefix of its keys. */
  readonly architecture: string
  /** Its models, for messages. */
  readonly models: string
  readonly names: TensorNames
  /** Known names that none of its models has. */
  readonly lacks: RegExp
  /** Number of layers at the end that are not loaded. Default: none. */
  skips?(keys: GgufKeys): number
  /** Features of its files that most readers would misread. Default: none. */
  readonly may?: {
    /** Rotate only the first columns of each head. */
    readonly rotatePart?: true
    /** Have layers without heads of keys and values. */
    readonly lackHeads?: true
  }
  /** Keys of config.json beyond those that all families have, which they replace. */
  config(keys: GgufKeys, tensors: ReadonlyMap<string, GgufTensor>): Record<string, unknown>
  /** How the elements of a tensor are stored, by its Hugging Face name. Default: as in the model. */
  stored?(name: string, sizes: StoredSizes): StoredForm
  /** Further sizes that this depends on, in a config that was read from a file. */
  sizes?(config: Readonly<Record<string, unknown>>): Partial<StoredSizes>
}

/** Sizes that the order of a tensor's elements may depend on. */
export interface StoredSizes {
  readonly heads: number
  readonly kvHeads: number
  readonly rule?: DeltaRuleSizes
}

/** How a tensor differs from the model's. */
export type StoredForm = Pick<TensorSource, 'permutedHeads' | 'headOrder' | 'shift' | 'negatedExp'>

/** The forms by architecture. */
export type GgufForms = ReadonlyMap<string, GgufForm>
