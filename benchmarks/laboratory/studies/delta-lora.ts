/**
 * Loss of Delta-LoRA during training, with its control: LoRA with an alpha (1 + lambda) times as large. The two are
 * equal to first order, since Delta-LoRA adds lambda times the change of s B A to the weight.
 */

import { FIGURE_WIDTH } from '../../../lib/bench/pictures.js'
import { mean } from '../../../lib/core/mean.js'
import { type Line, lineChart } from '../../../lib/report/chart/index.js'
import { deltaLora } from '../../../lib/strategies/delta-lora.js'
import { lora } from '../../../lib/strategies/lora.js'
import type { StrategyConfig } from '../../../lib/strategies/strategy.js'
import { rangeOf, type Study, type StudyResult } from '../study.js'

const LAMBDA = 2
const shape = { r: 8, loraAlpha: 16, targetModules: 'all-linear' } as const
const ARMS: readonly { arm: string; strategy: StrategyConfig }[] = [
  { arm: 'LoRA', strategy: lora(shape) },
  { arm: 'Delta-LoRA', strategy: deltaLora({ ...shape, lambda: LAMBDA }) },
  {
    arm: `LoRA, alpha × ${1 + LAMBDA}`,
    strategy: lora({ ...shape, loraAlpha: (1 + LAMBDA) * shape.loraAlpha }),
  },
]
const POINTS = 8

export const deltaLoraControl: Study = {
  steps: 200,
  runs: (seeds) => seeds * ARMS.length,
  run: async (bench): Promise<StudyResult> => {
    const every = Math.max(1, Math.floor(bench.steps / POINTS))
    const rows: { arm: string; seed: number; step: number; loss: number }[] = []
    for (const { arm, strategy } of ARMS)
      for (const seed of bench.seeds) {
        const [name, steps] = [arm, bench.steps]
        await bench.trained(
          strategy,
          {
            ...{ name, seed },
            onStep: async ({ step }, adapter) => {
              if (step % every === 0 && step < steps)
                rows.push({ arm, seed, step, loss: await bench.loss(adapter) })
            },
          },
          async (adapter) => rows.push({ arm, seed, step: steps, loss: await bench.loss(adapter) }),
        )
      }
    const at = (arm: string, step: number) =>
      rows.filter((row) => row.arm === arm && row.step === step).map(({ loss }) => loss)
    const steps = [...new Set(rows.map(({ step }) => step))].sort((a, b) => a - b)
    const title = 'Delta-LoRA and its control'
    const lines = ARMS.map(
      ({ arm }, hue): Line => ({
        ...{ name: arm, hue, dots: 'filled', x: steps },
        y: steps.map((step) => mean(at(arm, step))),
        low: steps.map((step) => Math.min(...at(arm, step))),
        high: steps.map((step) => Math.max(...at(arm, step))),
      }),
    )
    const { svg } = lineChart({
      ...{
        title,
        width: FIGURE_WIDTH,
        height: 340,
        lines,
        yScale: 'log',
        xLabel: 'step',
        yLabel: 'held-out loss',
      },
    })
    const [plain, delta, control] = ARMS.map(({ arm }) => at(arm, steps.at(-1) as number)) as [
      number[],
      number[],
      number[],
    ]
    const range = Math.max(...[plain, delta, control].map(rangeOf))
    const beyond = mean(control) - mean(delta)
    return {
      rows,
      title,
      key: `${bench.pointsKey}.`,
      chart: svg,
      reading: [
        `Rank 8, alpha 16, lambda ${LAMBDA}, all linears, one learning rate. At the end LoRA has ${mean(plain).toFixed(3)}, Delta-LoRA ${mean(delta).toFixed(3)}, and LoRA with ${1 + LAMBDA} times the alpha ${mean(control).toFixed(3)}.`,
        bench.seeds.length === 1
          ? 'One seed cannot tell whether these differ by more than chance.'
          : beyond > range
            ? 'Delta-LoRA is better than its control by more than seeds differ, so it gains from more than a larger scale.'
            : 'Delta-LoRA is not better than its control by more than seeds differ: a larger alpha alone gives what it gains over LoRA, which the paper compares it with.',
      ].join(' '),
    }
  },
}
