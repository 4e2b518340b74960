import { fault } from './fault.mjs'

export const privacy = [
  fault(
    'lib/federated/privacy.ts',
    'test/lib/federated/privacy.test.ts',
    'noiseMultiplier * clippingNorm * config.cohort',
    'noiseMultiplier * config.cohort',
    'noise ignores the clipping norm',
  ),
  fault(
    'lib/federated/privacy.ts',
    'test/lib/federated/privacy.test.ts',
    'return 1 / (10 * population)',
    'return 1 / population',
    'delta is one over the clients',
  ),
  fault(
    'lib/federated/privacy.ts',
    'test/lib/federated/privacy.test.ts',
    'config.cohort) / counted.cohort',
    'config.cohort) / config.cohort',
    'simulated noise is that of the real cohort',
  ),
  fault(
    'lib/federated/accountant.ts',
    'test/lib/federated/accountant.test.ts',
    'Math.log1p(-1 / order)',
    '0',
    'epsilon lacks a term of its conversion',
  ),
  fault(
    'lib/federated/accountant.ts',
    'test/lib/federated/accountant.test.ts',
    'low * 1e-6',
    'low * 1e-1',
    'the noise for a target is only roughly found',
  ),
  fault(
    'lib/federated/accountant.ts',
    'test/lib/federated/accountant.test.ts',
    '(_, i) => 11 + i)',
    '(_, i) => 12 + i)',
    'an order of the divergence is left out',
  ),
  fault(
    'lib/federated/subsampled-gaussian.ts',
    'test/lib/federated/accountant.test.ts',
    '(k * k - k) / (2',
    '(k * k) / (2',
    'the divergence has another exponent',
  ),
  fault(
    'lib/federated/sampling.ts',
    'test/lib/federated/sampling.test.ts',
    'BigInt(round), 8',
    '1n, 8',
    'every round draws the same cohort',
  ),
  fault(
    'lib/federated/sampling.ts',
    'test/lib/federated/sampling.test.ts',
    'uniform < rate',
    'uniform < rate * 0.9',
    'fewer are drawn than accounted for',
  ),
]
