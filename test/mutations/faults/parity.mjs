import { fault } from './fault.mjs'

/** The rules that all steps share, and gradient steps themselves. */
const fileOf = (find) => {
  if (find.startsWith('weightDecay')) return 'lib/train/steps/step.ts'
  return `lib/train/objectives/${find === SCALE ? 'next-token' : 'gradient-steps'}.ts`
}
const inSteps = (name, find, replace, what, least, title) =>
  fault(fileOf(find), `test/parity/${name}.test.ts`, find, replace, what, { least, title })

const SCALE = "head: { kind: 'scaled', lossScale }"
const DECAY = 'weightDecay: decays === false ? 0 : (optimizer.weightDecay ?? options.weightDecay)'

/** Rules of every step, which nearly every case that is compared with the Python stack must tell apart. */
export const parity = [
  inSteps(
    'strategies',
    DECAY,
    'weightDecay: 0',
    'nothing decays, of strategies',
    29,
    'steps of the strategy',
  ),
  inSteps(
    'strategies',
    'weightDecay: decays === false ? 0 : ',
    'weightDecay: ',
    'everything decays, of strategies',
    7,
    'steps of the strategy',
  ),
  inSteps('lora', DECAY, 'weightDecay: 0', 'nothing decays, of LoRA', 15, 'AdamW steps'),
  inSteps('full', DECAY, 'weightDecay: 0', 'nothing decays, of whole models', 2, 'AdamW steps'),
  inSteps(
    'strategies',
    'maxGradNorm: options.maxGradNorm,',
    'maxGradNorm: 0,',
    'gradients of strategies are not clipped',
    28,
    'steps of the strategy',
  ),
  inSteps(
    'lora',
    SCALE,
    "head: { kind: 'scaled', lossScale: 1 / (2 * (batch as any).nSupervised) }",
    'micro-batches of LoRA count alike',
    15,
    'AdamW steps',
  ),
]
