/** LOWRANK_CHECK=1 over whole steps of strategies, on the CPU and on the GPU of the stand-in driver. */
import { execFile } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { describe, expect, it } from 'vitest'
import { tinyModel } from '../../e2e/tiny-model.js'
import { sweepTest, WHOLE } from '../../sweep.js'
import { hasStandin, standin } from './cuda-standin.js'

const script = fileURLToPath(new URL('./checked-strategies.mjs', import.meta.url))

function checked(strategies: string | undefined, env: Record<string, string>) {
  const some: Record<string, string> = strategies === undefined ? {} : { CHECKED_STRATEGIES: strategies }
  return promisify(execFile)(process.execPath, [script, tinyModel('llama3')], {
    env: { ...process.env, LOWRANK_CHECK: '1', ...some, ...env },
  })
}

const passes = { stdout: expect.stringContaining('gemm_nt') }

// DoRA scales outputs in place, which a step names twice.
sweepTest(
  'finds the kernels of the CPU as the reference kernels are',
  async () => {
    await expect(checked(WHOLE ? undefined : 'dora', { LOWRANK_DISABLE_CUDA: '1' })).resolves.toMatchObject(
      passes,
    )
  },
  600_000,
)

it.each(['lfm2', 'qwen3_5'])('continues texts of %s, whose states no check may advance', async (family) => {
  const texts = fileURLToPath(new URL('./checked-texts.mjs', import.meta.url))
  const ids = async (check: string) => {
    const env = { ...process.env, LOWRANK_CHECK: check }
    return (await promisify(execFile)(process.execPath, [texts, tinyModel(family)], { env })).stdout
  }
  expect(await ids('1')).toBe(await ids('0'))
})

describe.runIf(hasStandin)('on a GPU', () => {
  sweepTest(
    'finds its kernels as those of the CPU are',
    async () => {
      await expect(checked(WHOLE ? undefined : 'lora', standin())).resolves.toMatchObject(passes)
    },
    600_000,
  )

  for (const { kernel, named } of [
    { kernel: 'rms_norm:3', named: 'forward rms_norm at model.layers.1.input_layernorm' },
    { kernel: 'rope:1', named: 'forward rope at model.layers.0.self_attn.q_rope' },
    { kernel: 'rms_norm_backward:1', named: 'backward rms_norm_backward at model.norm' },
  ])
    sweepTest(`names the node of the first kernel that is wrong: ${kernel} does nothing`, async () => {
      await expect(checked('lora', standin({ LOWRANK_STANDIN_SKIP: kernel }))).rejects.toThrow(
        `LOWRANK_CHECK: ${named}`,
      )
    })
})
