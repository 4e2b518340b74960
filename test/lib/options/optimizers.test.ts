import { expect, test } from 'vitest'
import {
  adafactor,
  adamW,
  adamW8bit,
  lion,
  lion8bit,
  optimizerOf,
  optimizerSchema,
  pagedAdamW,
  pagedAdamW8bit,
  sgd,
} from '../../../lib/options/optimizers.js'

test('adamW() has the defaults of torch but for weight decay, which the run sets', () => {
  expect(adamW()).toEqual({ type: 'adamw', betas: [0.9, 0.999], eps: 1e-8, weightDecay: null })
  expect(optimizerOf('adamw')).toEqual(adamW())
  expect(optimizerOf(adamW({ betas: [0.8, 0.9] }))).toMatchObject({ betas: [0.8, 0.9] })
})

test('the others have those of their papers', () => {
  expect(adamW8bit()).toEqual({ ...adamW(), type: 'adamw_8bit' })
  expect(lion()).toEqual({ type: 'lion', betas: [0.9, 0.99], weightDecay: null })
  expect(lion8bit()).toEqual({ ...lion(), type: 'lion_8bit' })
  expect(adafactor()).toEqual({
    type: 'adafactor',
    eps: [1e-30, 1e-3],
    clipThreshold: 1,
    decayRate: -0.8,
    scaleParameter: false,
    weightDecay: null,
  })
  expect(pagedAdamW8bit()).toEqual({ ...adamW(), type: 'paged_adamw_8bit', resident: '256MiB' })
  const all = [adamW(), adamW8bit(), pagedAdamW(), pagedAdamW8bit(), lion(), lion8bit(), adafactor(), sgd()]
  for (const one of all) {
    expect(optimizerOf(one.type)).toEqual(one)
    expect(optimizerSchema.parse(one)).toEqual(one)
  }
})

test.each([
  [adamW, { betas: [0.9] }, 'adamW(): betas is [0.9], expected two numbers in [0, 1).'],
  [adamW, { betas: [0.9, 1] }, 'adamW(): betas.1 is 1, expected a number in [0, 1).'],
  [adamW, { eps: 0 }, 'adamW(): eps is 0, expected a number above 0.'],
  [adamW, { beta: 1 }, 'adamW(): unknown key beta; did you mean betas?'],
  [lion8bit, { eps: 1 }, 'lion8bit(): unknown key eps; known keys: type, betas, weightDecay.'],
  [pagedAdamW, { resident: '64' }, 'pagedAdamW(): resident is "64", expected a size from 1MiB, as in 64MiB.'],
  [
    pagedAdamW,
    { resident: 'much' },
    'pagedAdamW(): resident is "much", expected a size from 1MiB, as in 64MiB.',
  ],
  [adafactor, { decayRate: 0.8 }, 'adafactor(): decayRate is 0.8, expected a number below 0.'],
])('%o refuses %j', (make, options, message) => {
  expect(() => make(options as never)).toThrow(expect.objectContaining({ code: 'CONFIG', message }))
})
