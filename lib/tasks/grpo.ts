/** Learns from rewards of sampled answers (GRPO, Shao et al. 2024, arXiv 2402.03300). */
import { integer, word } from '../core/schema.js'
import { rewardsSchema } from './rewards.js'
import { refusedWithAnswers } from './scored-answers.js'
import { taskRulesOf } from './task.js'

export const grpo = taskRulesOf({
  name: 'grpo',
  about: 'learn from rewards of sampled answers',
  page: '[Rewards](data.md#rewards)',
  options: {
    lossType: {
      schema: word(['dapo', 'grpo', 'dr_grpo']),
      default: 'dapo',
      about:
        'the mean over all tokens of a step (`dapo`), over the tokens of each answer and then over answers (`grpo`), or the sum over tokens divided by the number of answers times `max_completion_length` (`dr_grpo`)',
    },
    rewardFunctions: {
      schema: rewardsSchema,
      about: 'functions that score answers, or modules that export them; required',
    },
    numGenerations: {
      schema: integer(2, 'an integer from 2, since an answer is compared with others to its prompt'),
      default: 8,
      about: 'answers sampled per prompt',
    },
    maxCompletionLength: {
      schema: integer(1),
      about: 'most tokens in an answer',
      defaultText: 'as many as `max_seq_length` leaves after the prompt',
    },
    scaleRewards: {
      schema: word(['group', 'batch', 'none']),
      default: 'group',
      about:
        'what the difference of a reward from the mean of its group is divided by: the standard deviation of the `group`, that of all rewards of the step (`batch`), or nothing',
    },
  },
  check({ rewardFunctions }, bad) {
    if (rewardFunctions !== null) return
    const expected =
      'functions that score the answers of task grpo, or the path of a module that exports them'
    throw bad('rewardFunctions', undefined, expected)
  },
  refuses: [
    {
      key: 'optimizerInBackward',
      refuses: (value) => value === true,
      expected: 'false with task grpo, whose answers take several micro-batches',
    },
    ...refusedWithAnswers('grpo'),
  ],
  rows: { form: null, paired: false, counted: true, streamed: false, perAnswer: false },
  classes: false,
  samplesAnswers: true,
  loss: ({ lossType }) => ({
    name: 'importance_sampling',
    clip: null,
    beta: 0,
    normalize: lossType === 'grpo' ? 'sequence' : 'token',
  }),
  foreign: {
    reward_funcs: { here: 'reward_functions' },
    reward_weights: { note: 'rewards add up; multiply by the weight in the function' },
    'num_iterations steps_per_generation epsilon_high': {
      note: 'task: grpo samples new answers for each step, so ratios are 1 and never clipped; leave the key out',
    },
  },
  reference: null,
  plan: { rowWeights: true, twoPasses: false },
  evaluation: {
    metrics: ['loss', 'perplexity', 'exact_match', 'mean_token_accuracy', 'f1', 'reward'],
    answers: true,
  },
  runs: {
    ...{ onRanks: false, byLayers: false, byOwnSteps: false, compared: false },
    untimed: 'answers of any length are sampled in each step',
  },
  lowRates: true,
  dropoutWould: 'train another model than the one that answered',
  init: null,
})
