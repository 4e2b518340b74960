/** The shapes of well-known models, from the records of their families. */
import type { ModelType, Shape } from './family.js'
import { FAMILIES } from './list.js'

/** A config.json by model name, ordered by family. */
export const SHAPES: ReadonlyMap<string, Readonly<Record<string, unknown>>> = new Map(
  FAMILIES.flatMap(({ types }) =>
    Object.entries(types).flatMap(([name, type]) =>
      Object.entries(type.shapes).map(([model, shape]) => [model, configOf(name, type, shape)] as const),
    ),
  ),
)

function configOf(type: string, { architecture }: ModelType, shape: Shape): Record<string, unknown> {
  const [hidden, intermediate, layers, heads, kvHeads, vocabulary, { tied = false, ...more } = {}] = shape
  return {
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
  }
}
