/** Prefers the chosen of two answers, relative to the model at the start. */
import { dpo as loss } from '../losses/dpo.js'
import { scoredAnswers } from './scored-answers.js'
import { lossOptions, lossWith, taskRulesOf } from './task.js'

export const dpo = taskRulesOf({
  ...scoredAnswers('dpo'),
  name: 'dpo',
  about: 'prefer the chosen of two answers',
  page: '[Preference pairs](data.md#preference-pairs)',
  options: lossOptions(loss, ['beta', 'lossType', 'labelSmoothing']),
  check({ lossType, labelSmoothing }, bad) {
    if (lossType === 'ipo' && labelSmoothing)
      throw bad('labelSmoothing', labelSmoothing, 'it to be absent with loss_type ipo')
  },
  rows: { form: 'preference', paired: true, counted: false, streamed: false, perAnswer: false },
  loss: (options) => lossWith(loss, options),
  foreign: {
    dpo_beta: { here: 'beta' },
    dpo_loss_type: { here: 'loss_type' },
  },
  reference: 'sequences',
  evaluation: { metrics: ['loss', 'rewards_accuracies', 'rewards_margins'], answers: false },
  init: {
    comment: 'prefer the chosen answers; orpo needs no reference',
    entries: [['beta', 0.1, 'higher keeps the model closer to what it was']],
    perDeviceTrainBatchSize: 4,
  },
})
