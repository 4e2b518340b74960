/** The model families, by `model_type`. To add a family, add a file next to this one and an entry here. */
import { UnsupportedError } from '../core/errors.js'
import { quote } from '../core/quote.js'
import type { Graph } from '../graph/graph.js'
import { gemma3Graph } from './gemma3.js'
import { granite4Graph, graniteGraph } from './granite.js'
import { lfm2Graph } from './lfm2.js'
import { llamaGraph } from './llama.js'
import { ministral3Graph } from './ministral3.js'
import { mistralGraph } from './mistral.js'
import { olmo2Graph } from './olmo2.js'
import { olmo3Graph } from './olmo3.js'
import { phi3Graph } from './phi3.js'
import { qwen2Graph } from './qwen2.js'
import { qwen3Graph } from './qwen3.js'
import { qwen35Graph } from './qwen3_5.js'
import { smollm3Graph } from './smollm3.js'

type GraphOf = (config: Record<string, unknown>, ropeFactors?: ArrayLike<number>) => Graph

const families = new Map<string, GraphOf>([
  ['llama', llamaGraph],
  ['mistral', mistralGraph],
  ['qwen2', qwen2Graph],
  ['qwen3', qwen3Graph],
  ['smollm3', smollm3Graph],
  ['granite', graniteGraph],
  ['granitemoehybrid', granite4Graph],
  ['olmo2', olmo2Graph],
  ['olmo3', olmo3Graph],
  ['gemma3_text', gemma3Graph],
  ['ministral3', ministral3Graph],
  ['phi3', phi3Graph],
  ['lfm2', lfm2Graph],
  ['qwen3_5_text', qwen35Graph],
])

/**
 * The graph of a model, given its Hugging Face config.
 * @param ropeFactors divisors of the rotary frequencies from a GGUF file, if it has them
 * @throws {UnsupportedError} for an unknown `model_type`, listing the known ones
 */
export function graphOf(config: Record<string, unknown>, ropeFactors?: ArrayLike<number>): Graph {
  const type = config.model_type
  const family = typeof type === 'string' ? families.get(type) : undefined
  if (family === undefined)
    throw new UnsupportedError(
      `config.json: model_type is ${quote(type ?? null)}, which is not supported. Supported: ${[...families.keys()].join(', ')}.`,
      { modelType: type, supported: [...families.keys()] },
    )
  return family(config, ropeFactors)
}
