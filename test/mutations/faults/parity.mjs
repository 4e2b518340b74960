import { fault } from './fault.mjs'

/** In the parity tests themselves, whose cases must tell the rules of decay apart. */
export const parity = [
  fault(
    'test/parity/strategies.test.ts',
    'test/parity/strategies.test.ts',
    'weightDecay: group.decays === false ? 0 : weight_decay',
    'weightDecay: 0',
    'nothing decays, of strategies',
    { least: 28, title: 'steps of the strategy' },
  ),
  fault(
    'test/parity/strategies.test.ts',
    'test/parity/strategies.test.ts',
    'weightDecay: group.decays === false ? 0 : weight_decay',
    'weightDecay: weight_decay',
    'everything decays, of strategies',
    { least: 7, title: 'steps of the strategy' },
  ),
  fault(
    'test/parity/engine.ts',
    'test/parity/lora.test.ts',
    'weightDecay: weight_decay }',
    'weightDecay: 0 }',
    'nothing decays, of LoRA',
    { least: 15, title: 'AdamW steps' },
  ),
  fault(
    'test/parity/engine.ts',
    'test/parity/full.test.ts',
    'weightDecay: weight_decay }',
    'weightDecay: 0 }',
    'nothing decays, of whole models',
    { least: 2, title: 'AdamW steps' },
  ),
]
