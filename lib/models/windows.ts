/** Determines which layers have a sliding window, for the various config spellings. */
import { ConfigError, UnsupportedError } from '../core/errors.js'
import { quote } from '../core/quote.js'
import type { FieldReader } from './fields.js'

/** Number of keys a token attends to, one entry per layer. */
export type Windows = (number | undefined)[]

export function everyLayer(layers: number, window: number | undefined): Windows {
  return Array.from({ length: layers }, () => window)
}

/**
 * `layer_types` gives `full_attention` or `sliding_attention` for each layer. If it is absent, layers from
 * `firstWindowed` on have the window, if there is one.
 * @throws {UnsupportedError} for another layer type
 * @throws {ConfigError} if the number of types differs from the number of layers, or a sliding layer has no window
 */
export function windowsByLayer(
  read: FieldReader,
  layers: number,
  window: number | undefined,
  firstWindowed: number,
): Windows {
  const types = read.texts('layer_types')
  if (types === undefined)
    return everyLayer(layers, window).map((entry, layer) => (layer >= firstWindowed ? entry : undefined))
  if (types.length !== layers)
    throw new ConfigError(
      `config.json: layer_types has ${types.length} entries, but num_hidden_layers is ${layers}.`,
      { layerTypes: types.length, layers },
    )
  return types.map((type, layer) => {
    if (type === 'full_attention') return undefined
    if (type !== 'sliding_attention')
      throw new UnsupportedError(
        `config.json: layer_types[${layer}] is ${quote(type)}; supported: 'full_attention' and 'sliding_attention'.`,
        { layer, type },
      )
    if (window === undefined)
      throw new ConfigError(
        `config.json: layer_types[${layer}] is 'sliding_attention', but no window is set: set sliding_window, and use_sliding_window if the family has it.`,
        { layer },
      )
    return window
  })
}

/** Uses `layer_types`; if absent, the last layer of each period has no window and all others do. */
export function windowsByPeriod(
  read: FieldReader,
  layers: number,
  window: number | undefined,
  period: number,
): Windows {
  if (read.texts('layer_types') !== undefined) return windowsByLayer(read, layers, window, 0)
  return everyLayer(layers, window).map((entry, layer) => ((layer + 1) % period === 0 ? undefined : entry))
}

/** As in Qwen2 and Qwen3: no windows unless `use_sliding_window` is set; then from layer `max_window_layers` on. */
export function windowsByFlag(read: FieldReader, layers: number): Windows {
  const window = read.flag('use_sliding_window', false)
    ? read.optionalSize('sliding_window', 4096)
    : undefined
  return windowsByLayer(read, layers, window, read.count('max_window_layers', 28))
}
