import { expect, test } from 'vitest'
import { adamW, optimizerOf } from '../../../lib/train/optimizers.js'

test('adamW() has the defaults of torch but for weight decay, which the run sets', () => {
  expect(adamW()).toEqual({ type: 'adamw', betas: [0.9, 0.999], eps: 1e-8, weightDecay: null })
  expect(optimizerOf('adamw')).toEqual(adamW())
  expect(optimizerOf(adamW({ betas: [0.8, 0.9] }))).toMatchObject({ betas: [0.8, 0.9] })
})

test.each([
  [{ betas: [0.9] }, 'adamW(): betas is [0.9], expected two numbers in [0, 1).'],
  [{ betas: [0.9, 1] }, 'adamW(): betas.1 is 1, expected a number in [0, 1).'],
  [{ eps: 0 }, 'adamW(): eps is 0, expected a number above 0.'],
  [{ beta: 1 }, 'adamW(): unknown key beta; did you mean betas?'],
])('adamW() refuses %j', (options, message) => {
  expect(() => adamW(options as never)).toThrow(expect.objectContaining({ code: 'CONFIG', message }))
})
