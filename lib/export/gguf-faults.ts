/**
 * What keeps a model from a GGUF file: differences between its graph and that of the file, and the settings of its config
 * that they come from.
 */
import type { BaseModel } from '../base/base.js'
import { UnsupportedError } from '../core/errors.js'
import { quote } from '../core/quote.js'
import { ggufName } from '../formats/gguf-names.js'
import { type Graph, nodesOf, type Rotary } from '../graph/graph.js'
import { ggufFormOf, graphOf } from '../models/index.js'

export function windowsOf(graph: Graph): (number | undefined)[] {
  return nodesOf(graph, 'attention').map(({ window }) => window)
}

/** @throws {UnsupportedError} for windows of an architecture whose files do not say which layers have them */
export function refuseWindows({ files: { config }, name }: BaseModel): void {
  const positions = config.max_position_embeddings as number
  const count = (other: Graph) => windowsOf(other).filter((window = positions) => window < positions).length
  const unwindowed = { ...config, sliding_window: null, use_sliding_window: false, layer_types: undefined }
  const settings = blamed(config, unwindowed, count)
  if (settings.length > 0) throw unwritable(name, settings)
}

/** @throws {UnsupportedError} for weights that no model of the architecture has in its files, such as biases */
export function refuseLacking({ files: { config }, graph, name }: BaseModel): void {
  const { lacks, names } = ggufFormOf(graph.family)
  const count = ({ weights }: Graph) =>
    weights.filter((weight) => lacks.test(weight.name) && ggufName(weight.name, names) !== undefined).length
  if (count(graph) === 0) return
  const off = Object.entries(config).flatMap(([key, value]) => (value === true ? [[key, false]] : []))
  const settings = blamed(config, { ...config, ...Object.fromEntries(off) }, count)
  if (settings.length > 0) throw unwritable(name, settings)
}

export function unwritable(name: string, settings: readonly string[]): UnsupportedError {
  const these = settings.length === 1 ? 'this setting' : 'these settings'
  return new UnsupportedError(
    `${name} cannot be written as a GGUF file, which has no key for ${these} of config.json: ${settings.join('; ')}. Write a safetensors folder instead.`,
    { model: name, settings },
  )
}

/** Largest relative difference in rotary frequencies caused by rounding to fp32. */
const ROUNDING = 1e-6

/**
 * Differences between the graph of a model and that of its file, one for each weight and operation; what differs, in
 * words.
 * @param positions context length of the model
 */
export function differences(expected: Graph, found: Graph, positions: number): string[] {
  const unequal = (about: string, one: readonly unknown[], other: readonly unknown[]): string[] =>
    Array.from({ length: Math.max(one.length, other.length) }, (_, i) => i)
      .filter((i) => JSON.stringify(one[i]) !== JSON.stringify(other[i]))
      .map(() => about)
  // A window as large as the context has no effect, so it counts as none.
  const windows = (graph: Graph) =>
    windowsOf(graph).map((window) => (window !== undefined && window < positions ? window : 0))
  const nodes = ({ nodes }: Graph) =>
    nodes.map((node) => (node.op === 'attention' ? { ...node, window: undefined } : node))
  const sizes = ({ layers, vocabSize }: Graph) => [layers, vocabSize]
  return [
    ...unequal('its sizes', sizes(expected), sizes(found)),
    ...unequal('the list of its weights', expected.weights, found.weights),
    ...unequal('the windows of its attention', windows(expected), windows(found)),
    ...unequal('its operations', nodes(expected), nodes(found)),
    ...expected.ropes
      .filter((rope, i) => !isSameRotary(rope, found.ropes[i]))
      .map(() => 'the scaling of its rotary embedding'),
  ]
}

function isSameRotary(a: Rotary, b: Rotary | undefined): boolean {
  const near = (one: number, other: number) => Math.abs(one - other) <= ROUNDING * Math.abs(one)
  const allNear = (one: number[], other: number[]) =>
    one.length === other.length && one.every((frequency, i) => near(frequency, other[i] ?? Number.NaN))
  return (
    b !== undefined &&
    near(a.attentionFactor, b.attentionFactor) &&
    near(a.growth?.rate ?? 0, b.growth?.rate ?? 0) &&
    a.growth?.every === b.growth?.every &&
    a.long?.above === b.long?.above &&
    allNear(a.invFreq, b.invFreq) &&
    allNear(a.long?.invFreq ?? [], b.long?.invFreq ?? [])
  )
}

/** Settings that act together: of the rotary embedding, which configs spell in several ways, and of windows. */
const TOGETHER = [
  ['rope_parameters', 'rope_scaling', 'rope_theta', 'rope_local_base_freq'],
  ['sliding_window', 'use_sliding_window', 'layer_types'],
]

/**
 * The settings of a config that keep a model from its file, as sentences with what the file can hold.
 * @param found the config with what the file can hold
 * @param distance of a model from the file; smaller without each of the settings
 */
export function blamed(
  own: Record<string, unknown>,
  found: Record<string, unknown>,
  distance: (graph: Graph) => number,
): string[] {
  const without = (...keys: string[]) => {
    try {
      return distance(graphOf({ ...own, ...Object.fromEntries(keys.map((key) => [key, found[key]])) }))
    } catch {
      // Not a model: the setting belongs to others.
      return Number.POSITIVE_INFINITY
    }
  }
  const now = without()
  const isBehind = (...keys: string[]) => without(...keys) < now
  const alone = Object.keys(own).filter((key) => isBehind(key))
  const together = TOGETHER.filter((keys) => !keys.some((key) => alone.includes(key)) && isBehind(...keys))
  return [...alone, ...together.flat()]
    .filter((key) => own[key] != null)
    .map((key) => setting(key, own[key], found[key]))
}

function setting(key: string, value: unknown, accepted: unknown): string {
  const expected = accepted === undefined ? 'it to be absent' : quote(accepted)
  return `${key} is ${quote(value)}, expected ${expected}`
}
