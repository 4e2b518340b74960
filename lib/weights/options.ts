/** Options for storing base weights and computing with them. */
import * as z from 'zod'
import { integer, parseBytes, word } from '../core/schema.js'
import type { DeviceOption } from '../native/device.js'
import { fourBitSchema, type Quantization, quantizationFrom } from './quantization.js'

/** Precision of the matrix operands of a base model. */
export type PrecisionOption = 'auto' | 'fp32' | 'bf16'

/** Requested quantizations. */
export interface QuantizationOptions {
  quantization?: Quantization['type'] | Quantization | undefined
  embeddingQuantization?: Quantization['type'] | Quantization | undefined
}

export const quantizationSchema = z.union(
  [
    z.enum(['none', 'nf4', 'fp4', 'int8', 'keep']),
    fourBitSchema,
    z.strictObject({ type: z.enum(['none', 'int8', 'keep']) }),
  ],
  { error: 'none, nf4, fp4, int8, keep or {type: nf4, double_quant: true}' },
)

export const precisionSchema = word(['auto', 'fp32', 'bf16'])
  .default('auto')
  .describe('Precision of matrix operands; `auto` is bf16 if the CPU multiplies it faster.')

const DEVICE = 'auto, cpu, cuda or the number of a GPU such as cuda:0'

export const deviceSchema = (
  z
    .string({ error: DEVICE })
    .regex(/^(auto|cpu|cuda|cuda:(0|[1-9]\d{0,3}))$/, { error: DEVICE }) as unknown as z.ZodType<
    DeviceOption,
    DeviceOption
  >
)
  .default('auto')
  .describe(
    'Device to run on; `cuda` is the first GPU that can be used, `cuda:N` that with the number, and `auto` is `cuda` if there is one (in `lowrank train`: that the run fits on), else `cpu`.',
  )

const PAGED = 'true, false or a size such as 2GiB'

export const pagedWeightsSchema = z
  .union([z.boolean(), z.string().refine((size) => parseBytes(size) !== undefined, { error: PAGED })], {
    error: PAGED,
  })
  .default(false)
  .describe(
    'Keep the frozen weights in a file, with at most this much of them in memory; on a GPU, keep them in pinned memory of the host, with at most this much of them on the GPU. `true` chooses a size.',
  )

/** Memory budget of a paged base: bytes, or 0 to choose one; undefined for a base that is not paged. */
export function pagedBudget(value: boolean | string): number | undefined {
  return typeof value === 'string' ? parseBytes(value) : value ? 0 : undefined
}

const THREADS = 'auto or an integer from 1 to 1024'

export const threadsSchema = z
  .union([z.literal('auto'), integer(1, THREADS).max(1024, { error: THREADS })], { error: THREADS })
  .default('auto')

/** Parses the option's value; a 4-bit format given only by name uses double quantization. */
export function quantizationOf(value: z.infer<typeof quantizationSchema>): Quantization {
  return typeof value === 'string' ? (quantizationFrom(value) as Quantization) : value
}
