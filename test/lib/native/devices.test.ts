/** Every strategy and full fine-tuning on the GPU of the stand-in driver, through the public interface. */
import { describe, test } from 'vitest'
import { hasStandin, standin } from './cuda-standin.js'
import { expectLikeTheCpu, type Run } from './devices.js'

const runs = (['fp32', 'bf16'] as const).flatMap((precision) =>
  ([2, 20] as const).map((steps): Run => ({ precision, steps })),
)

describe.runIf(hasStandin)('the stand-in driver', () => {
  test.each(runs)(
    'trains every strategy as the CPU does: $steps steps in $precision',
    (run) => expectLikeTheCpu(run, standin()),
    600_000,
  )
})
