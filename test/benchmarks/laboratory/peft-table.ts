/** A folder of experiments in the format of PEFT's, made for tests. */
import { mkdirSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { scratchFolder } from '../../lib/scratch.js'

export const DEFAULTS = {
  ...{ model_id: 'maker/Tiny-1B', max_seq_length: 64, batch_size: 2, max_steps: 90, grad_norm_clip: 1 },
  ...{ optimizer_type: 'AdamW', optimizer_kwargs: { lr: 1e-4, weight_decay: 0.2 }, lr_scheduler: 'cosine' },
}

const LORA = { peft_type: 'LORA', r: 4, lora_alpha: 8, target_modules: null, bias: 'none', kasa_config: null }

export const EXPERIMENTS: Record<string, unknown> = {
  'adalora/tiny-1B-rank4/adapter_config.json': {
    ...{ peft_type: 'ADALORA', init_r: 8, target_r: 4, lora_alpha: 8, r: 8 },
    ...{ tinit: 10, tfinal: 20, total_step: 90 },
  },
  'full-finetuning/tiny-1B-lr_0.00001/training_params.json': { optimizer_kwargs: { lr: 1e-5 } },
  'ia3/tiny-1B-default/adapter_config.json': { peft_type: 'IA3', target_modules: ['k_proj'] },
  'loha/tiny-1B-rank4/adapter_config.json': { peft_type: 'LOHA', r: 4, alpha: 8, target_modules: ['v_proj'] },
  'lora/tiny-1B-blocks/adapter_config.json': { ...LORA, use_blocks: { count: 2 } },
  'lora/tiny-1B-rank32/adapter_config.json': { ...LORA, r: 32, init_lora_weights: true },
  'lora/tiny-1B-rank4-dora/adapter_config.json': { ...LORA, use_dora: true, target_modules: ['up_proj'] },
  'lora/tiny-1B-rank4-kasa/adapter_config.json': { ...LORA, kasa_config: { beta: 1 } },
  'lora/tiny-1B-rank4-lorafa/adapter_config.json': LORA,
  'lora/tiny-1B-rank4-lorafa/training_params.json': {
    ...{ optimizer_type: 'lora-fa', optimizer_kwargs: { r: 4, lora_alpha: 8, lr: 1e-4, weight_decay: 0.2 } },
  },
  'lora/tiny-1B-rank4-loraplus/adapter_config.json': LORA,
  'lora/tiny-1B-rank4-loraplus/training_params.json': {
    ...{ optimizer_type: 'lora+', optimizer_kwargs: { lr: 1e-4, loraplus_lr_ratio: 8 }, batch_size: 4 },
  },
  'lora/tiny-1B-rank4-other-start/adapter_config.json': { ...LORA, init_lora_weights: 'other' },
  'lora/tiny-1B-rank4-pissa/adapter_config.json': { ...LORA, init_lora_weights: 'pissa' },
  'lora/tiny-1B-rank4-rslora/adapter_config.json': { ...LORA, use_rslora: true },
  'lora/tiny-1B-sgd-like/adapter_config.json': LORA,
  'lora/tiny-1B-sgd-like/training_params.json': { optimizer_type: 'curved', optimizer_kwargs: { lr: 1e-4 } },
  'lost/tiny-1B-default/training_params.json': { optimizer_kwargs: { lr: 1e-3 } },
  'oft/tiny-1B-rank4/adapter_config.json': { peft_type: 'OFT', r: 4, oft_block_size: 0 },
  'vera/tiny-1B-default/adapter_config.json': {
    peft_type: 'VERA',
    r: 16,
    d_initial: 0.1,
    init_weights: true,
  },
  'vera/tiny-1B-default/training_params.json': { optimizer_kwargs: { lr: 1e-3 } },
  'vera/tiny-1B-start/adapter_config.json': { peft_type: 'VERA', r: 16, init_weights: 'other' },
}

/** @param files by path below the folder of experiments; text is written as it is */
export function peftTable(
  files: Record<string, unknown> = EXPERIMENTS,
  defaults: unknown = DEFAULTS,
): string {
  const root = scratchFolder()
  const table = join(root, 'method_comparison', 'MetaMathQA')
  const write = (path: string, content: unknown) => {
    mkdirSync(dirname(path), { recursive: true })
    writeFileSync(path, typeof content === 'string' ? content : JSON.stringify(content))
  }
  for (const [path, content] of Object.entries(files)) write(join(table, 'experiments', path), content)
  if (defaults !== null) write(join(table, 'default_training_params.json'), defaults)
  return root
}
