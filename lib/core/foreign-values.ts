/** Words of other programs: the entries of their options, and their names for values of ours. */

/** An option of another program. */
export interface ForeignKey {
  /**
   * The equivalent key, as a path in a config file. If there are several, the first one valid in the context is used.
   * Paths that begin with `generate.` are options of text generation, which config files do not have. A component with `*`
   * is the first key with this end.
   */
  readonly here?: string | readonly string[]
  /** Equivalents of the other program's values; null means the default, so the key can be omitted. */
  readonly values?: Readonly<Record<string, string | null>>
  /** True if our own values, also in capitals, are the other program's. */
  readonly ours?: true
  /** The difference between the two, or why there is no equivalent and what comes closest; without a period. */
  readonly note?: string
}

/** Options of other programs; those that are the same are one entry, separated by spaces. */
export type ForeignKeys = Readonly<Record<string, ForeignKey>>

/** Other programs' names for values of known keys, by the path of the key. */
export const FOREIGN_VALUES = {
  optimizer: {
    adam: 'adamw',
    adamw_hf: 'adamw',
    adamw_torch: 'adamw',
    adamw_torch_fused: 'adamw',
    adamw_apex_fused: 'adamw',
    adamw_bnb_8bit: 'adamw_8bit',
    adamw_8bit_bnb: 'adamw_8bit',
    adamw_torch_8bit: 'adamw_8bit',
    paged_adamw_32bit: 'paged_adamw',
    lion_32bit: 'lion',
    paged_lion_32bit: 'lion',
    paged_lion_8bit: 'lion_8bit',
  },
  lr_scheduler_type: {
    cosine_decay: 'cosine',
    linear_schedule: 'linear',
    cosine_with_min_lr: '{type: cosine, min_lr_rate: 0.1}',
    cosine_warmup_with_min_lr: '{type: cosine, min_lr_rate: 0.1}',
    wsd: '{type: warmup_stable_decay, num_decay_steps: 100}',
    warmup_stable_decay: '{type: warmup_stable_decay, num_decay_steps: 100}',
  },
  quantization: {
    '4': 'nf4',
    '8': 'int8',
    '4bit': 'nf4',
    '8bit': 'int8',
    'bnb-4bit': 'nf4',
    bnb: 'nf4',
    bitsandbytes: 'nf4',
  },
  precision: {
    bfloat16: 'bf16',
    'torch.bfloat16': 'bf16',
    float32: 'fp32',
    'torch.float32': 'fp32',
  },
  'dataset.format': {
    chatml: 'messages',
    openai: 'messages',
    chat_template: 'messages',
    completion: 'text',
    pretrain: 'text',
  },
  train_on: { assistant: 'completions', assistants: 'completions', completion: 'completions' },
} as const satisfies Readonly<Record<string, Readonly<Record<string, string>>>>
