/** Predicts the class of a text, at its last token. */
import * as z from 'zod'
import { positive } from '../core/schema.js'
import { taskRulesOf } from './task.js'

const CLASS_WEIGHTS = 'balanced, or a number above 0 for each name of a class'

export const classification = taskRulesOf({
  name: 'classification',
  about: 'predict the class of a text',
  page: '[Classes](data.md#classes)',
  options: {
    classWeights: {
      schema: z.union([z.literal('balanced'), z.record(z.string(), positive())], { error: CLASS_WEIGHTS }),
      about:
        'how much a row of each class counts in the loss, by the name of the class; `balanced` counts rows of rare classes more',
      defaultText: 'all alike',
    },
  },
  refuses: [
    {
      key: 'trainOn',
      refuses: (value) => value !== 'completions',
      expected: 'it to be absent with task classification',
    },
  ],
  rows: { form: 'classification', paired: false, counted: true, streamed: false, perAnswer: false },
  classes: true,
  samplesAnswers: false,
  reference: null,
  plan: { rowWeights: true, twoPasses: false },
  evaluation: { metrics: ['loss', 'accuracy', 'f1'], answers: false },
  runs: { onRanks: true, byLayers: false, byOwnSteps: false, compared: false, untimed: null },
  lowRates: false,
  dropoutWould: null,
  init: {
    comment: 'a head that scores classes, in place of the one that writes text',
    entries: [],
    perDeviceTrainBatchSize: 8,
  },
})
