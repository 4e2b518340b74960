/** Prefers the chosen of two answers by their odds, without a reference. */
import { orpo as loss } from '../losses/orpo.js'
import { scoredAnswers } from './scored-answers.js'
import { lossOptions, lossWith, taskRulesOf } from './task.js'

export const orpo = taskRulesOf({
  ...scoredAnswers('orpo'),
  name: 'orpo',
  about: 'prefer the chosen of two answers',
  page: '[Preference pairs](data.md#preference-pairs)',
  options: lossOptions(loss, {
    beta: 'weight of the odds ratio',
    nllOn:
      'tokens of the chosen rows that the negative log-likelihood is a mean over: prompts and answers (`all`), as in the code of the paper and in TRL, or answers alone (`completions`)',
  }),
  rows: { form: 'preference', paired: true, counted: false, streamed: false, perAnswer: false },
  loss: (options) => lossWith(loss, options),
  reference: null,
  evaluation: { metrics: ['loss', 'rewards_accuracies', 'rewards_margins'], answers: false },
  init: {
    comment: 'prefer the chosen answers',
    entries: [['beta', 0.1, 'weight of the preference beside the likelihood of the chosen answers']],
    perDeviceTrainBatchSize: 4,
  },
})
