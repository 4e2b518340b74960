/** Learns from answers that are good or bad by themselves. */
import { kto as loss } from '../losses/kto.js'
import { scoredAnswers } from './scored-answers.js'
import { lossOptions, lossWith, taskRulesOf } from './task.js'

export const kto = taskRulesOf({
  ...scoredAnswers('kto'),
  name: 'kto',
  about: 'learn from good and bad answers',
  page: '[Good and bad answers](data.md#good-and-bad-answers)',
  options: lossOptions(loss, ['beta', 'desirableWeight', 'undesirableWeight']),
  rows: { form: 'unpaired_preference', paired: false, counted: false, streamed: false, perAnswer: false },
  loss: (options) => lossWith(loss, options),
  foreign: {
    'kto_chosen_weight kto_desirable_weight': { here: 'desirable_weight' },
    'kto_rejected_weight kto_undesirable_weight': { here: 'undesirable_weight' },
  },
  reference: 'mismatched',
  evaluation: { metrics: ['loss', 'rewards_margins'], answers: false },
  init: {
    comment: 'good answers and bad ones',
    entries: [['beta', 0.1, 'higher keeps the model closer to what it was']],
    perDeviceTrainBatchSize: 4,
  },
})
