import { expect, test } from 'vitest'
import { asGiven, hyperparametersOf, jobRequest } from '../../../lib/serve/job-request.js'

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
