/**
 * Rotary frequencies from a config. A scaling is a function from the plain frequencies to others; those here give one
 * set of frequencies for texts of every length, which is what the tables of a session can hold.
 */
import { UnsupportedError } from '../core/errors.js'
import { log, pow } from '../core/portable-math.js'
import { quote } from '../core/quote.js'
import type { Rotary } from '../graph/graph.js'
import { type FieldReader, fieldReader } from './fields.js'

interface Plain {
  /** Frequency j is theta^(-2j / headDim). */
  frequencies: number[]
  theta: number
  headDim: number
  /** Context length that the unscaled model was trained for. */
  original: number
}

type Scaling = (plain: Plain, read: FieldReader) => { invFreq: number[]; attentionFactor?: number }

/** Positions divided by a factor (position interpolation), which is the same as frequencies divided by it. */
const linear: Scaling = ({ frequencies }, read) => {
  const factor = read.number('factor')
  return { invFreq: frequencies.map((f) => f / factor) }
}

/** Meta's for Llama 3: long wavelengths divided by the factor, short ones kept, the band between interpolated. */
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
 * YaRN (Peng et al., 2023): pairs that turn more than `beta_fast` times in the original context are kept, those that
 * turn less than `beta_slow` times are divided by the factor, with a ramp over the pairs between; scores grow with the
 * logarithm of the factor.
 */
const yarn: Scaling = ({ frequencies, theta, headDim, original }, read) => {
  const factor = read.number('factor')
  /** The pair, as a fraction, that turns this often in the original context. */
  const pairOf = (turns: number) => (headDim * log(original / (turns * 2 * Math.PI))) / (2 * log(theta))
  const whole = read.flag('truncate', true)
  const fast = pairOf(read.number('beta_fast', 32))
  const slow = pairOf(read.number('beta_slow', 1))
  const low = Math.max(whole ? Math.floor(fast) : fast, 0)
  let high = Math.min(whole ? Math.ceil(slow) : slow, headDim - 1)
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

const scalings = new Map<string, Scaling>([
  ['default', ({ frequencies }) => ({ invFreq: frequencies })],
  ['linear', linear],
  ['llama3', llama3],
  ['yarn', yarn],
])

/** Settings of the rotary embedding in a config, in the older or the newer spelling of transformers. */
export interface RopeParameters {
  theta: number
  /** Kind of scaling; `default` is none. */
  type: string
  /** The numbers of the scaling. */
  scaling: Record<string, unknown>
}

const record = (value: unknown) =>
  typeof value === 'object' && value !== null && !Array.isArray(value)
    ? (value as Record<string, unknown>)
    : undefined

/**
 * The config of a model whose types of layers rotate in their own ways, as it is for one of them. transformers v5 has
 * `rope_parameters` by type; before that `rope_theta` and `rope_scaling` were those of full attention.
 * @param theta base of the frequencies where the config has none for the type
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

/** @throws {UnsupportedError} for several rotary embeddings in one model */
export function ropeParameters(config: Record<string, unknown>): RopeParameters {
  // transformers v5 keeps theta and scaling together in `rope_parameters`; before that they were two fields.
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
  if (typeof type !== 'string' || !scalings.has(type))
    throw new UnsupportedError(
      `config.json: RoPE scaling ${quote(type)} is not supported. Supported: ${[...scalings.keys()].join(', ')}.`,
      { type, supported: [...scalings.keys()] },
    )
  return { theta, type, scaling }
}

/**
 * @param maxPositions stands in for an original context length that the config does not give
 * @throws {UnsupportedError} for a scaling that is not here, or one of a part of the head
 */
export function rotaryFrequencies(
  config: Record<string, unknown>,
  headDim: number,
  maxPositions: number,
): Rotary {
  const { theta, type, scaling } = ropeParameters(config)
  const part = scaling.partial_rotary_factor ?? config.partial_rotary_factor ?? 1
  if (part !== 1)
    throw new UnsupportedError(
      `config.json: partial_rotary_factor is ${quote(part)}; only 1 (whole heads) is supported.`,
      { partialRotaryFactor: part },
    )
  const scale = scalings.get(type) as Scaling
  const read = fieldReader(scaling, 'config.json rope_scaling')
  const outer = fieldReader(config)
  const original = outer.size(
    'original_max_position_embeddings',
    read.size('original_max_position_embeddings', maxPositions),
  )
  const frequencies = Array.from({ length: headDim / 2 }, (_, j) => pow(theta, -(2 * j) / headDim))
  const { invFreq, attentionFactor = 1 } = scale({ frequencies, theta, headDim, original }, read)
  return { invFreq, attentionFactor }
}
