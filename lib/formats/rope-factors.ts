/**
 * Divisors of the rotary frequencies, which GGUF files store as a tensor and config.json as a rule with parameters.
 * Llama 3's rule (Meta's reference code) keeps short wavelengths, divides long ones by `factor`, and interpolates in
 * between.
 */
import { UnsupportedError } from '../core/errors.js'
import { readInto, withInputFile } from '../io/input.js'
import type { TensorSource } from './tensor-source.js'

/** Parameters of `rope_scaling` with type `llama3`. */
export interface Llama3Scaling {
  factor: number
  low_freq_factor: number
  high_freq_factor: number
  original_max_position_embeddings: number
}

/** The divisors stored in a file, `[head_dim / 2]`; undefined if there are none. */
export async function readRopeFactors({
  ropeFactors,
}: {
  ropeFactors?: TensorSource
}): Promise<Float32Array | undefined> {
  return ropeFactors === undefined ? undefined : readFactors(ropeFactors)
}

/** Reads the numbers of an F32 tensor. */
export async function readFactors(source: TensorSource): Promise<Float32Array> {
  return withInputFile(source.file, async (file) => {
    const bytes = new Uint8Array(source.bytes)
    await readInto(file, bytes, source.offset)
    return new Float32Array(bytes.buffer)
  })
}

/** Divisors of the unscaled frequencies (radians per position). */
export function llama3Factors(frequencies: readonly number[], scaling: Llama3Scaling): number[] {
  const { factor, low_freq_factor: low, high_freq_factor: high } = scaling
  const original = scaling.original_max_position_embeddings
  return frequencies.map((frequency) => {
    const wavelength = (2 * Math.PI) / frequency
    if (wavelength < original / high) return 1
    if (wavelength > original / low) return factor
    const smooth = (original / wavelength - low) / (high - low)
    return 1 / ((1 - smooth) / factor + smooth)
  })
}

/**
 * Recovers the scaling parameters from the divisors in a GGUF file, by trying the parameters of all models published by
 * Meta.
 * @param frequencies unscaled, in radians per position
 * @throws {UnsupportedError} when no known parameters match
 */
export function llama3ScalingOf(
  factors: ArrayLike<number>,
  frequencies: readonly number[],
  where: string,
): Llama3Scaling {
  const scaling = {
    factor: Math.max(...Array.from(factors)),
    low_freq_factor: 1,
    high_freq_factor: 4,
    original_max_position_embeddings: 8192,
  }
  const expected = llama3Factors(frequencies, scaling)
  const same = expected.every((value, i) => Math.abs(value - (factors[i] ?? Number.NaN)) <= 1e-4 * value)
  if (same) return scaling
  throw new UnsupportedError(
    `${where}: its rope_freqs.weight does not follow Llama 3's scaling (low_freq_factor 1, high_freq_factor 4, over 8192 positions), and a config.json cannot hold other divisors; export the model as GGUF instead, or start from its Hugging Face folder.`,
    { path: where },
  )
}
