/** Every strategy and full fine-tuning on the GPU of the stand-in driver, against the CPU, through the public interface. */
import { execFile } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { describe, expect, test } from 'vitest'
import { listStrategies } from '../../../lib/strategies/index.js'
import { tinyModel } from '../../e2e/tiny-model.js'
import { WHOLE } from '../../sweep.js'
import { hasStandin, standin } from './cuda-standin.js'

const script = fileURLToPath(new URL('./devices.mjs', import.meta.url))

/** What devices.mjs prints of a strategy. */
interface Comparison {
  name: string
  cpu: number[]
  cuda: number[]
  apart: Record<string, number>
}

/** Largest differences: of the losses, relative where they are above 1, and of what a step changes of a parameter, by norm. */
const limits = {
  fp32: { losses: { 2: 1e-6, 20: 1e-4 }, changes: 1e-4 },
  bf16: { losses: { 2: 2e-3, 20: 2e-2 }, changes: 2e-2 },
}
const runs = (['fp32', 'bf16'] as const).flatMap((precision) =>
  ([2, 20] as const).map((steps) => ({ precision, steps })),
)

describe.runIf(hasStandin)('the stand-in driver', () => {
  test.each(WHOLE ? runs : runs.slice(0, 1))(
    'trains every strategy as the CPU does: $steps steps in $precision',
    async ({ precision, steps }) => {
      const { stdout } = await promisify(execFile)(
        process.execPath,
        [script, tinyModel('llama3'), String(steps), precision],
        { env: { ...process.env, ...standin() } },
      )
      const compared = stdout
        .trim()
        .split('\n')
        .map((line): Comparison => JSON.parse(line))
      const names = [...listStrategies().map(({ name }) => name), 'full']
      expect(compared.map(({ name }) => name).sort()).toEqual(names.sort())
      const allowed = limits[precision]
      for (const { name, cpu, cuda, apart } of compared) {
        expect(cpu, name).toHaveLength(steps)
        for (const [i, loss] of cuda.entries()) {
          const expected = cpu[i] as number
          const difference = Math.abs(loss - expected) / Math.max(1, expected)
          expect(difference, `${name}, loss of step ${i + 1}`).toBeLessThanOrEqual(allowed.losses[steps])
        }
        for (const [parameter, distance] of Object.entries(apart)) {
          expect(distance, `${name}, ${parameter}`).toBeLessThanOrEqual(
            steps === 2 ? allowed.changes : Infinity,
          )
        }
        expect(
          Object.values(apart).some((distance) => distance > 0),
          `${name} ran on the GPU`,
        ).toBe(true)
      }
    },
    600_000,
  )
})
