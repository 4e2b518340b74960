/** Predicts the next token. */
import { flag } from '../core/schema.js'
import { taskRulesOf } from './task.js'

export const causalLm = taskRulesOf({
  name: 'causal_lm',
  about: 'predict the next token',
  options: {
    tokenAccuracy: {
      schema: flag(),
      about:
        'measure, in every step and evaluation, the share of supervised tokens that are the likeliest ones after the tokens before them (`mean_token_accuracy`); private rounds measure it in evaluations only',
      default: false,
    },
  },
  refuses: [],
  rows: { form: null, paired: false, counted: false, streamed: true, perAnswer: true },
  classes: false,
  samplesAnswers: false,
  reference: null,
  plan: { rowWeights: false, twoPasses: false },
  evaluation: { metrics: ['loss', 'perplexity', 'exact_match', 'mean_token_accuracy', 'f1'], answers: true },
  runs: { onRanks: true, byLayers: true, byOwnSteps: true, compared: true, untimed: null },
  lowRates: false,
  dropoutWould: null,
  init: { comment: null, entries: [], perDeviceTrainBatchSize: 4 },
})
