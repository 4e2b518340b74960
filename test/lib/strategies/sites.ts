/** The linears of a two-layer Llama of width 64 with grouped queries, shared by the tests of strategies. */

import { graphOf } from '../../../lib/models/index.js'
import { linearSites } from '../../../lib/strategies/describe.js'

export const tinyConfig = {
  model_type: 'llama',
  vocab_size: 96,
  hidden_size: 64,
  intermediate_size: 128,
  num_hidden_layers: 2,
  num_attention_heads: 4,
  num_key_value_heads: 2,
  tie_word_embeddings: true,
}

export const tinyGraph = graphOf(tinyConfig)
/** The same with the embedding. */
export const allSites = linearSites(tinyGraph)
export const sites = allSites.filter((site) => !site.embedding)
