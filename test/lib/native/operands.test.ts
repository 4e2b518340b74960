import { execFile } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { expect, it } from 'vitest'
import { tinyModel } from '../../e2e/tiny-model.js'

const script = fileURLToPath(new URL('./checked-strategies.mjs', import.meta.url))

/**
 * Kernels that no plan of these trainings launches. Those of noise, of a few tokens, of a cache, of a first step, of two
 * adapters, and of a probe are checked all the same; grouped products are those of devices that join operands, not the CPU,
 * and products by row are those of texts that decode side by side.
 */
const UNPLANNED = [
  'append_to_cache',
  'add_noise',
  'ratios_over',
  'grouped_gemm_nt',
  'gemm_nt_by_row',
  'rotate_by_series',
  'row_squares',
  'second_moment',
  'keep_conv_inputs',
]

it('kernels of all strategies touch the memory that they name, and no other', async () => {
  const { stdout } = await promisify(execFile)(
    process.execPath,
    [
      script,
      tinyModel(),
      tinyModel('qwen2'),
      tinyModel('qwen3'),
      tinyModel('gemma3'),
      tinyModel('lfm2_odd'),
      tinyModel('qwen3_5_odd'),
    ],
    {
      env: { ...process.env, LOWRANK_CHECK: 'operands' },
    },
  )
  const { launched, all } = JSON.parse(stdout)
  expect(all.filter((kernel: string) => !launched.includes(kernel))).toEqual(UNPLANNED)
}, 900_000)
