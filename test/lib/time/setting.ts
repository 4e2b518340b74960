import { lora } from '../../../lib/index.js'
import { SHAPES } from '../../../lib/models/shapes.js'
import type { StepSetting } from '../../../lib/planning/step-setting.js'

/** LoRA over a well-known shape, in NF4 with fp32 products. */
export function settingOf(shape: string, options: Partial<StepSetting['options']> = {}): StepSetting {
  return {
    config: SHAPES.get(shape) as StepSetting['config'],
    formatOf: (name) => (/norm/.test(name) ? 'f32' : name.endsWith('_proj.weight') ? 'nf4_double' : 'bf16'),
    precision: 'f32',
    strategy: lora({ r: 8 }),
    options: {
      perDeviceTrainBatchSize: 4,
      maxSeqLength: 512,
      packing: true,
      gradientCheckpointing: true,
      keepAttention: false,
      logitsMemory: '48MiB',
      optimizer: null,
      optimizerInBackward: false,
      ...options,
    },
  }
}
