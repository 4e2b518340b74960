/**
 * Rotary frequencies from a config. A scaling maps the unscaled frequencies to new ones: one set for texts of any
 * length or, with LongRoPE, one for short and one for long texts.
 */
import { ConfigError, UnsupportedError } from '../core/errors.js'
import { log, pow } from '../core/portable-math.js'
import { quote } from '../core/quote.js'
import type { Rotary } from '../graph/graph.js'
import { type FieldReader, fieldReader } from './fields.js'

interface Plain {
  /** Frequency j is theta^(-2j / columns). */
  frequencies: number[]
  theta: number
  /** Number of rotated columns per head. */
  columns: number
  /** Maximum text length, `max_position_embeddings`. */
  positions: number
  /** Context length on which the unscaled model was trained. */
  original: number
}

type Scaling = (
  plain: Plain,
  read: FieldReader,
) => Pick<Rotary, 'invFreq' | 'long'> & { attentionFactor?: number }

/** Position interpolation: dividing positions by a factor is the same as dividing frequencies. */
const linear: Scaling = ({ frequencies }, read) => {
  const factor = read.number('factor')
  return { invFreq: frequencies.map((f) => f / factor) }
}

/**
 * Meta's scaling for Llama 3: long wavelengths are divided by the factor, short ones kept, and those in between
 * interpolated.
 */
const llama3: Scaling = ({ frequencies, original }, read) => {
  const factor = read.number('factor')
  const lowFactor = read.number('low_freq_factor')
  const highFactor = read.number('high_freq_factor')
  const invFreq = frequencies.map((f) => {
    const wavelength = (2 * Math.PI) / f
    if (wavelength < original / highFactor) return f
    if (wavelength > original / lowFactor) return f / factor
    const smooth = (original / wavelength - lowFactor) / (highFactor - lowFactor)
    return ((1 - smooth) * f) / factor + smooth * f
  })
  return { invFreq }
}

/**
 * YaRN (Peng et al., 2023): pairs that turn more than `beta_fast` times within the original context are kept, those
 * that turn less than `beta_slow` times are divided by the factor, with a ramp in between; attention scores grow with
 * the logarithm of the factor.
 */
const yarn: Scaling = ({ frequencies, theta, columns, original }, read) => {
  const factor = read.number('factor')
  /** The (fractional) index of the pair that turns this often within the original context. */
  const pairOf = (turns: number) => (columns * log(original / (turns * 2 * Math.PI))) / (2 * log(theta))
  const whole = read.flag('truncate', true)
  const fast = pairOf(read.number('beta_fast', 32))
  const slow = pairOf(read.number('beta_slow', 1))
  const low = Math.max(whole ? Math.floor(fast) : fast, 0)
  let high = Math.min(whole ? Math.ceil(slow) : slow, columns - 1)
  if (high === low) high += 0.001
  const invFreq = frequencies.map((f, pair) => {
    const ramp = Math.min(Math.max((pair - low) / (high - low), 0), 1)
    return f * (1 - ramp) + (f / factor) * ramp
  })
  const growth = (strength: number) => (factor <= 1 ? 1 : 0.1 * strength * log(factor) + 1)
  const scale = read.optionalNumber('mscale')
  const scaleAll = read.optionalNumber('mscale_all_dim')
  const inferred =
    scale !== undefined && scaleAll !== undefined ? growth(scale) / growth(scaleAll) : growth(1)
  return { invFreq, attentionFactor: read.number('attention_factor', inferred) }
}

/**
 * LongRoPE (Ding et al., 2024): a searched divisor for each pair, with a second set for texts longer than the original
 * context.
 */
const longrope: Scaling = ({ frequencies, original, positions }, read) => {
  const divided = (key: string) => {
    const factors = read.numbers(key)
    if (factors?.length !== frequencies.length || factors.some((factor) => factor <= 0))
      throw new ConfigError(
        `config.json rope_scaling: ${key} is ${quote(factors)}; expected ${frequencies.length} numbers above zero, one for each rotated pair of a head.`,
        { key, pairs: frequencies.length },
      )
    return frequencies.map((frequency, pair) => frequency / (factors[pair] as number))
  }
  const factor = read.number('factor', positions / original)
  const inferred = factor <= 1 ? 1 : Math.sqrt(1 + log(factor) / log(original))
  return {
    invFreq: divided('short_factor'),
    long: { invFreq: divided('long_factor'), above: original },
    attentionFactor: read.number('attention_factor', inferred),
  }
}

const scalings = new Map<string, Scaling>([
  ['default', ({ frequencies }) => ({ invFreq: frequencies })],
  ['linear', linear],
  ['llama3', llama3],
  ['yarn', yarn],
  ['longrope', longrope],
])

/** Properties of a family's rotary embedding. */
export interface RopeVariant {
  /** Scaling types that the family supports. */
  types: readonly string[]
  /** True if `partial_rotary_factor` may leave the last columns of heads unrotated. */
  partial?: true
}

/** The rotary embedding of most families. */
const USUAL: RopeVariant = { types: ['default', 'linear', 'llama3', 'yarn'] }

/** Rotary settings of a config, in the older or the newer spelling of transformers. */
export interface RopeParameters {
  theta: number
  /** Scaling type; `default` means none. */
  type: string
  /** Parameters of the scaling. */
  scaling: Record<string, unknown>
}

const record = (value: unknown) =>
  typeof value === 'object' && value !== null && !Array.isArray(value)
    ? (value as Record<string, unknown>)
    : undefined

/**
 * The config as it applies to one layer type, for models whose layer types rotate differently. transformers v5 has
 * `rope_parameters` by type; before that, `rope_theta` and `rope_scaling` applied to full attention.
 * @param theta base of the frequencies if the config has none for the type
 */
export function ropeOfLayers(
  config: Record<string, unknown>,
  type: 'full_attention' | 'sliding_attention',
  theta?: number,
): Record<string, unknown> {
  const full = type === 'full_attention'
  const scaling = full ? config.rope_scaling : null
  const given = record(config.rope_parameters)
  if (given !== undefined && !('full_attention' in given || 'sliding_attention' in given))
    throw new UnsupportedError(
      'config.json: rope_parameters has neither full_attention nor sliding_attention, which models of this type require.',
      { keys: Object.keys(given) },
    )
  return {
    ...config,
    rope_theta: full ? (config.rope_theta ?? theta) : theta,
    rope_scaling: { ...record(given?.[type]), ...record(scaling) },
    rope_parameters: null,
  }
}

/**
 * Reads the rotary settings.
 * @param types scaling types that are supported
 * @throws {UnsupportedError} for several rotary embeddings in one model, and for other scaling types
 */
export function ropeParameters(
  config: Record<string, unknown>,
  types: readonly string[] = [...scalings.keys()],
): RopeParameters {
  // transformers v5 stores theta and scaling together in `rope_parameters`; before that they were two fields.
  const scaling = record(config.rope_scaling) ?? record(config.rope_parameters) ?? {}
  if (Object.values(scaling).some((value) => record(value) !== undefined))
    throw new UnsupportedError(
      'config.json: rope_parameters differ between layer types, which is not supported.',
      { keys: Object.keys(scaling) },
    )
  const theta = fieldReader({ rope_theta: scaling.rope_theta ?? config.rope_theta }).number(
    'rope_theta',
    10000,
  )
  const type = scaling.rope_type ?? scaling.type ?? 'default'
  if (typeof type !== 'string' || !types.includes(type))
    throw new UnsupportedError(
      `config.json: RoPE scaling ${quote(type)} is not supported. Supported: ${types.join(', ')}.`,
      { type, supported: types },
    )
  return { theta, type, scaling }
}

/**
 * Computes the rotary frequencies.
 * @param maxPositions used if the config does not give an original context length
 * @throws {UnsupportedError} for an unsupported scaling, or a partial rotation
 */
export function rotaryFrequencies(
  config: Record<string, unknown>,
  headDim: number,
  maxPositions: number,
  variant: RopeVariant = USUAL,
): Rotary {
  const { theta, type, scaling } = ropeParameters(config, variant.types)
  const columns = rotatedColumns(config, headDim, variant)
  const scale = scalings.get(type) as Scaling
  const read = fieldReader(scaling, 'config.json rope_scaling')
  const outer = fieldReader(config)
  const original = outer.size(
    'original_max_position_embeddings',
    read.size('original_max_position_embeddings', maxPositions),
  )
  const frequencies = Array.from({ length: columns / 2 }, (_, j) => pow(theta, -(2 * j) / columns))
  const plain = { frequencies, theta, columns, positions: maxPositions, original }
  return { attentionFactor: 1, ...scale(plain, read) }
}

/** Number of rotated columns per head, starting from the first. */
export function rotatedColumns(
  config: Record<string, unknown>,
  headDim: number,
  { partial }: RopeVariant = USUAL,
): number {
  const { scaling } = ropeParameters(config)
  const part = scaling.partial_rotary_factor ?? config.partial_rotary_factor ?? 1
  if (part === 1) return headDim
  if (!partial)
    throw new UnsupportedError(
      `config.json: partial_rotary_factor is ${quote(part)}; only 1 (whole heads) is supported.`,
      { partialRotaryFactor: part },
    )
  const columns = typeof part === 'number' ? Math.floor(headDim * part) : 0
  if (columns < 2 || columns % 2 !== 0 || columns > headDim)
    throw new ConfigError(
      `config.json: partial_rotary_factor is ${quote(part)}; expected a number from 0 to 1 that leaves an even number of the ${headDim} columns of a head, at least 2.`,
      { partialRotaryFactor: part, headDim },
    )
  return columns
}
