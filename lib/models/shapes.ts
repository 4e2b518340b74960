/** Shapes of well-known models: the parts of their config.json that determine training memory. */

/** A config.json by model name. */
export type Shapes = Readonly<Record<string, Readonly<Record<string, unknown>>>>

type Row = readonly [
  hidden: number,
  intermediate: number,
  layers: number,
  heads: number,
  kvHeads: number,
  vocabulary: number,
  /** `tied`: one matrix for embedding and head. Other keys are those of the config. */
  more?: { readonly tied?: true } & Readonly<Record<string, unknown>>,
]

/** @param type `model_type` of all of them */
export function shapesOf(type: string, architecture: string, rows: Readonly<Record<string, Row>>): Shapes {
  return Object.fromEntries(
    Object.entries(rows).map(([name, row]) => {
      const [hidden, intermediate, layers, heads, kvHeads, vocabulary, { tied = false, ...more } = {}] = row
      return [
        name,
        {
          architectures: [architecture],
          model_type: type,
          hidden_size: hidden,
          intermediate_size: intermediate,
          num_hidden_layers: layers,
          num_attention_heads: heads,
          num_key_value_heads: kvHeads,
          vocab_size: vocabulary,
          tie_word_embeddings: tied,
          ...more,
          max_position_embeddings: 8192,
          torch_dtype: 'bfloat16',
        },
      ]
    }),
  )
}
