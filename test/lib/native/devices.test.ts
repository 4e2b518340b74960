/** Every strategy and every task on the GPU of the stand-in driver, through the public interface. */
import { describe, test } from 'vitest'
import { hasStandin, standin } from './cuda-standin.js'
import { expectLikeTheCpu, expectScriptLikeTheCpu, expectTasksToMove, type Run } from './devices.js'

const runs = (['fp32', 'bf16'] as const).flatMap((precision) =>
  ([2, 20] as const).map((steps): Run => ({ precision, steps })),
)

describe.runIf(hasStandin)('the stand-in driver', () => {
  test.each(runs)(
    'trains every strategy as the CPU does: $steps steps in $precision',
    (run) => expectLikeTheCpu(run, standin()),
    600_000,
  )

  describe.each(['fp32', 'bf16'] as const)('in %s', (precision) => {
    test(
      'trains every task, and with smoothed labels and noise, as the CPU does',
      () => expectScriptLikeTheCpu('tasks.mjs', precision, standin()),
      600_000,
    )
    test(
      'makes the steps of custom loops as the CPU does, with every loss',
      () => expectScriptLikeTheCpu('loops.mjs', precision, standin()),
      600_000,
    )
  })

  test(
    'runs of tasks allocate there what was planned, and go on on the other device',
    () => expectTasksToMove(standin()),
    600_000,
  )
})
