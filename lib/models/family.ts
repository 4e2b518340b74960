/** The record of a model family. To add a family, write a file with one and run `node scripts/records.mjs`. */
import type { FieldEntry } from '../formats/gguf-fields.js'
import type { GgufForm } from '../formats/gguf-form.js'
import type { Whole } from '../formats/text-model.js'
import type { Graph } from '../graph/graph.js'
import type { TrainingTemplateForm } from '../tokenizer/training-templates.js'

/** Makes the graph of one forward pass. @param ropeFactors divisors of the rotary frequencies from a GGUF file */
export type GraphOf = (config: Record<string, unknown>, ropeFactors?: ArrayLike<number>) => Graph

/** How models are stored in GGUF files, and what of it a writer has to know besides. */
export interface FamilyGguf extends GgufForm {
  readonly written?: {
    /** Period of the layers without a window, if only some have one. */
    readonly windowPeriod?: number
    /** A window is always written, 0 for none. */
    readonly alwaysWindow?: true
    /** Readers derive the head size from the hidden size. */
    readonly plainHeads?: true
    /** Further keys with f32 numbers; those without a number are omitted. */
    numbers?(config: Readonly<Record<string, unknown>>): [key: string, value: unknown][]
    /** Fields written in place of common ones, by the key that they replace. */
    fields?(graph: Graph, config: Readonly<Record<string, unknown>>): FieldsInPlace
    /** The config of the same model with the layers that files have; undefined if the model has them already. */
    unfused?(config: Readonly<Record<string, unknown>>): Record<string, unknown> | undefined
  }
}

/** Entries in place of a common one, by its key. */
export type FieldsInPlace = Readonly<Record<string, (common: FieldEntry) => readonly FieldEntry[]>>

/** A well-known model: the parts of its config.json that determine training memory. */
export type Shape = readonly [
  hidden: number,
  intermediate: number,
  layers: number,
  heads: number,
  kvHeads: number,
  vocabulary: number,
  /** `tied`: one matrix for embedding and head. Other keys are those of the config. */
  more?: { readonly tied?: true } & Readonly<Record<string, unknown>>,
]

/** Models with the same `model_type`. */
export interface ModelType {
  readonly graph: GraphOf
  /** Their class in transformers. */
  readonly architecture: string
  /** The models of the family and their differences from others, as in docs/models.md. */
  readonly models: string
  readonly notes?: string
  readonly shapes: Readonly<Record<string, Shape>>
}

/** A class of multimodal models, by its `model_type`. */
export interface WholeModel extends Omit<Whole, 'classes'> {
  /** The `model_type` of the text models that it may have, of this family or another. */
  readonly texts: readonly string[]
}

/** Models that share one way to be stored in GGUF files. */
export interface Family {
  /** By `model_type`. */
  readonly types: Readonly<Record<string, ModelType>>
  /** Multimodal models whose text models are of the family. */
  readonly wholes?: Readonly<Record<string, WholeModel>>
  /** Absent if its models are not stored as GGUF files. */
  readonly gguf?: FamilyGguf
  /** Chat templates for training, in place of models' own. */
  readonly templates?: readonly TrainingTemplateForm[]
}
