/** Prefers the chosen of two answers by their odds, without a reference. */
import { orpo as loss } from '../losses/orpo.js'
import { scoredAnswers } from './scored-answers.js'
import { lossOptions, lossWith, taskRulesOf } from './task.js'

export const orpo = taskRulesOf({
  ...scoredAnswers('orpo'),
  name: 'orpo',
  about: 'prefer the chosen of two answers',
  page: '[Preference pairs](data.md#preference-pairs)',
  options: lossOptions(loss, ['beta', 'nllOn']),
  rows: { form: 'preference', paired: true, counted: false, streamed: false, perAnswer: false },
  loss: (options) => lossWith(loss, options),
  foreign: {
    orpo_alpha: { here: 'beta' },
  },
  reference: null,
  evaluation: { metrics: ['loss', 'rewards_accuracies', 'rewards_margins'], answers: false },
  init: {
    comment: 'prefer the chosen answers',
    entries: [['beta', 0.1, 'weight of the preference beside the likelihood of the chosen answers']],
    perDeviceTrainBatchSize: 4,
  },
})
