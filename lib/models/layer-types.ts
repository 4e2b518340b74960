/** Types of layers, for models that have attention only in some. */
import { ConfigError, UnsupportedError } from '../core/errors.js'
import { quote } from '../core/quote.js'
import type { FieldReader } from './fields.js'

/**
 * The type of each layer, from `layer_types`.
 * @param types supported types
 * @param usual type of a layer if the config has no list
 */
export function layerTypes<Type extends string>(
  read: FieldReader,
  layers: number,
  types: readonly Type[],
  usual: (layer: number) => Type,
): Type[] {
  const given = read.texts('layer_types')
  if (given === undefined) return Array.from({ length: layers }, (_, layer) => usual(layer))
  if (given.length !== layers)
    throw new ConfigError(
      `config.json: layer_types has ${given.length} entries, but num_hidden_layers is ${layers}.`,
      { layerTypes: given.length, layers },
    )
  return given.map((name, layer) => {
    const type = types.find((one) => one === name)
    if (type !== undefined) return type
    throw new UnsupportedError(
      `config.json: layer_types[${layer}] is ${quote(name)}; supported: ${types.map((one) => `'${one}'`).join(' and ')}.`,
      { layer, type: name },
    )
  })
}
