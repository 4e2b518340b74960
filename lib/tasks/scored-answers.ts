/** Rules shared by the tasks whose loss compares log-probabilities of answers. */
import type { Refusal, TaskRules } from './task.js'

/** @param task its name, for messages */
export const refusedWithAnswers = (task: string): readonly Refusal[] => [
  {
    key: 'trainOn',
    refuses: (value) => value === 'all',
    expected: `completions or last, since task ${task} compares answers`,
  },
  { key: 'labelSmoothingFactor', refuses: (value) => Number(value) > 0, expected: `0 with task ${task}` },
  {
    key: 'neftuneNoiseAlpha',
    refuses: (value) => value !== null,
    expected: `it to be absent with task ${task}, which would compare a noisy model with a clean one`,
  },
]

/** A task of given answers, each scored as a whole by two passes of the head. */
export const scoredAnswers = (task: string) =>
  ({
    refuses: refusedWithAnswers(task),
    classes: false,
    samplesAnswers: false,
    plan: { rowWeights: true, twoPasses: true },
    runs: { onRanks: true, byLayers: false, byOwnSteps: false, compared: false, untimed: null },
    lowRates: true,
    dropoutWould: 'compare a noisy model with a clean one',
  }) as const satisfies Partial<TaskRules>
