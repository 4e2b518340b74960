import { expect, test } from 'vitest'
import { isRight } from '../../../../lib/train/measures/answer-scores.js'

test.each([
  ['<think>\n40 - 8 = 32.\n</think>\n\n32 bowls.', '32 bowls.', true],
  ['40 - 8 = 32.\n</think>\n\n32 bowls.', '32 bowls.', true],
  ['[THINK]Minus <think>[/THINK]32 bowls.', ' 32 bowls.\n', true],
  ['32 bowls.', '<think>40 - 8</think>32 bowls.', true],
  ['<think>Other</think><tool_call>{}</tool_call>', '<think>One</think>\n<tool_call>{}</tool_call>', true],
  ['<think>32 bowls.</think>31 bowls.', '32 bowls.', false],
  ['<think>32 bowls.', '32 bowls.', false],
  ['<think>One</think>', '<think>Other</think>', false],
  ['Write <think> before it, </think> behind it.', 'End with </think> behind it.', false],
])('%j for %j is right: %s', (answer, expected, right) => {
  expect(isRight(answer, expected)).toBe(right)
})
