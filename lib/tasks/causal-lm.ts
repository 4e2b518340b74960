/** Predicts the next token. */
import { taskRulesOf } from './task.js'

export const causalLm = taskRulesOf({
  name: 'causal_lm',
  about: 'predict the next token',
  options: {},
  refuses: [],
  rows: { form: null, paired: false, counted: false, streamed: true, perAnswer: true },
  classes: false,
  samplesAnswers: false,
  reference: null,
  plan: { rowWeights: false, twoPasses: false },
  evaluation: { metrics: ['loss', 'perplexity', 'exact_match', 'accuracy', 'f1'], answers: true },
  runs: { onRanks: true, byLayers: true, byOwnSteps: true, compared: true, untimed: null },
  lowRates: false,
  dropoutWould: null,
  init: { comment: null, entries: [], perDeviceTrainBatchSize: 4 },
})
