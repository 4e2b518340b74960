/**
 * Rotary frequencies from a config: the plain ones, and Llama 3's scaling (Meta's reference: long wavelengths are
 * divided by `factor`, short ones kept, the band between interpolated).
 */
import { UnsupportedError } from '../errors.js'
import { fieldReader } from './fields.js'

export interface Rotary {
  /** Radians per position of each pair, scaling applied: headDim / 2 numbers. */
  invFreq: number[]
  /** The same before scaling. */
  plain: number[]
  /** Multiplies cos and sin. */
  attentionFactor: number
}

/** @throws {UnsupportedError} for a scaling other than `default` and `llama3` */
export function rotaryFrequencies(
  config: Record<string, unknown>,
  headDim: number,
  maxPositions: number,
): Rotary {
  const record = (value: unknown) =>
    typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : undefined
  // transformers v5 keeps theta and scaling together in `rope_parameters`; before that they were two fields.
  const scaling = record(config.rope_parameters) ?? record(config.rope_scaling) ?? {}
  const theta = fieldReader({ rope_theta: scaling.rope_theta ?? config.rope_theta }).number(
    'rope_theta',
    10000,
  )
  const plain = Array.from({ length: headDim / 2 }, (_, j) => theta ** (-(2 * j) / headDim))
  const type = scaling.rope_type ?? scaling.type ?? 'default'
  if (type === 'default') return { invFreq: plain, plain, attentionFactor: 1 }
  if (type !== 'llama3')
    throw new UnsupportedError(
      `config.json: RoPE scaling '${String(type)}' is not supported; known are 'default' and 'llama3'.`,
      { type },
    )
  const read = fieldReader(scaling, 'config.json rope_scaling')
  const factor = read.number('factor')
  const lowFactor = read.number('low_freq_factor')
  const highFactor = read.number('high_freq_factor')
  const original = read.size('original_max_position_embeddings', maxPositions)
  const invFreq = plain.map((f) => {
    const wavelength = (2 * Math.PI) / f
    if (wavelength < original / highFactor) return f
    if (wavelength > original / lowFactor) return f / factor
    const smooth = (original / wavelength - lowFactor) / (highFactor - lowFactor)
    return ((1 - smooth) * f) / factor + smooth * f
  })
  return { invFreq, plain, attentionFactor: 1 }
}
