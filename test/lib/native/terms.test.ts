import { execFile } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { expect, it } from 'vitest'
import { tinyModel } from '../../e2e/tiny-model.js'
import { WHOLE } from '../../sweep.js'

const script = fileURLToPath(new URL('./checked-strategies.mjs', import.meta.url))

it('adapters of strategies compute what merging would write', async () => {
  const run = promisify(execFile)(process.execPath, [script, tinyModel()], {
    env: { ...process.env, LOWRANK_CHECK: 'terms', ...(WHOLE ? {} : { CHECKED_STRATEGIES: 'lora,dora' }) },
  })
  await expect(run).resolves.toMatchObject({ stdout: expect.stringContaining('gemm_nt') })
}, 600_000)
