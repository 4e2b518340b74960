import { expect, test } from 'vitest'
import {
  asGiven,
  hyperparametersOf,
  type JobPlaces,
  jobConfig,
  jobRequest,
} from '../../../lib/serve/job-request.js'

const request = (more: object) => jobRequest({ model: 'base', training_file: 'file-a', ...more })

test.each([
  [1, { n_epochs: 10, batch_size: 1 }],
  [50, { n_epochs: 6, batch_size: 1 }],
  [1000, { n_epochs: 3, batch_size: 2 }],
  [5000, { n_epochs: 3, batch_size: 8 }],
  [1_000_000, { n_epochs: 3, batch_size: 256 }],
])('auto hyperparameters of %d rows follow the documented rule', (rows, expected) => {
  expect(hyperparametersOf(request({}), rows)).toEqual({ ...expected, learning_rate_multiplier: 1 })
})

test('hyperparameters are read where either generation of clients puts them', () => {
  const numbers = { n_epochs: 2, batch_size: 'auto', learning_rate_multiplier: 0.5 }
  const read = { n_epochs: 2, batch_size: 1, learning_rate_multiplier: 0.5 }
  expect(hyperparametersOf(request({ hyperparameters: numbers }), 10)).toEqual(read)
  const method = { type: 'supervised', supervised: { hyperparameters: numbers } }
  expect(hyperparametersOf(request({ method }), 10)).toEqual(read)
  expect(asGiven(request({ method }))).toEqual(numbers)
  const dpo = { type: 'dpo', dpo: { hyperparameters: { beta: 0.3 } } }
  expect(hyperparametersOf(request({ method: dpo }), 100)).toMatchObject({ beta: 0.3, n_epochs: 3 })
  expect(hyperparametersOf(request({ method: { type: 'dpo' } }), 100)).toMatchObject({ beta: 0.1 })
  expect(() => request({ method: { ...method, supervised: { hyperparameters: { beta: 1 } } } })).toThrow(
    'beta',
  )
})

const grader = { type: 'string_check', name: 'same', input: 'a', reference: 'b', operation: 'eq' }
const reinforced = (hyperparameters?: object, more: object = {}) => ({
  method: { type: 'reinforcement', reinforcement: { grader, hyperparameters, ...more } },
})
const places = {
  ...{ model: 'demo/base', training: '/t.jsonl', validation: '/v.jsonl', start: null, output: '/run' },
}

test('hyperparameters of reinforcement become those of a run, and auto follows the documented rule', () => {
  const usual = { compute_multiplier: 1, eval_samples: 1, reasoning_effort: 'default' }
  const numbers = hyperparametersOf(request(reinforced()), 1000)
  expect(numbers).toEqual({
    ...{ n_epochs: 3, batch_size: 2, learning_rate_multiplier: 1, ...usual, eval_interval: 500 },
  })
  expect(asGiven(request(reinforced({ eval_interval: 7 })))).toEqual({
    ...{ n_epochs: 'auto', batch_size: 'auto', learning_rate_multiplier: 'auto', eval_interval: 7 },
    ...{ compute_multiplier: 'auto', eval_samples: 'auto', reasoning_effort: 'default' },
  })
  const configOf = (hyperparameters: object, more: object = {}, at: JobPlaces = places) => {
    const validation = at.validation === null ? {} : { validation_file: 'file-b' }
    const asked = request({ ...reinforced(hyperparameters), ...validation, ...more })
    return jobConfig(asked, hyperparametersOf(asked, 40), 3, 40, at)
  }
  expect(configOf({ batch_size: 8, n_epochs: 2, compute_multiplier: 0.5, eval_interval: 3 })).toMatchObject({
    ...{ task: 'grpo', numGenerations: 4, perDeviceTrainBatchSize: 4, gradientAccumulationSteps: 2, seed: 3 },
    ...{ numTrainEpochs: 2, evalSteps: 3, saveSteps: 5, metricForBestModel: 'reward', tokenAccuracy: null },
  })
  expect(configOf({ compute_multiplier: 0.001 }).numGenerations).toBe(2)
  expect(configOf({ compute_multiplier: 10 }).numGenerations).toBe(80)
  expect(configOf({}, { lowrank: { num_generations: 3, max_completion_length: 9 } })).toMatchObject({
    ...{ numGenerations: 3, maxCompletionLength: 9 },
  })
  const alone = configOf({}, {}, { ...places, validation: null })
  expect(alone).toMatchObject({ evalSteps: null, metricForBestModel: 'loss', evalDataset: null })
})

test.each<[object, object, string]>([
  [{ eval_samples: 2 }, {}, 'method.reinforcement.hyperparameters.eval_samples'],
  [{ compute_multiplier: 11 }, {}, 'method.reinforcement.hyperparameters.compute_multiplier'],
  [{ compute_multiplier: 0 }, {}, 'method.reinforcement.hyperparameters.compute_multiplier'],
  [{ eval_interval: 0 }, {}, 'method.reinforcement.hyperparameters.eval_interval'],
  [{ reasoning_effort: 'extreme' }, {}, 'method.reinforcement.hyperparameters.reasoning_effort'],
  [{ beta: 0.1 }, {}, 'method.reinforcement.hyperparameters.beta'],
  [{ compute_multiplier: 2 }, { lowrank: { num_generations: 4 } }, 'lowrank.num_generations'],
  [{}, { lowrank: { reward_functions: '/x.mjs' } }, 'lowrank.reward_functions'],
])('reinforcement with %j and %j is refused', (hyperparameters, more, param) => {
  expect(() => request({ ...reinforced(hyperparameters), ...more })).toThrow(
    expect.objectContaining({ param }),
  )
})

test('a reinforcement request without a grader, or with a format, is refused by its name', () => {
  const refused = (method: object, param: string) =>
    expect(() => request({ method: { type: 'reinforcement', ...method } })).toThrow(
      expect.objectContaining({ param }),
    )
  refused({}, 'method.reinforcement')
  refused({ reinforcement: {} }, 'method.reinforcement.grader')
  refused({ reinforcement: { grader: { type: 'python' } } }, 'method.reinforcement.grader.type')
  refused(
    { reinforcement: { grader, response_format: { type: 'json_object' } } },
    'method.reinforcement.response_format',
  )
  expect(request(reinforced({}, { response_format: null }))).toBeDefined()
})
