/** Names of the strategies in the literature. Written by `node scripts/records.mjs`. */
export const STRATEGY_LABELS: Readonly<Record<string, string>> = {
  adalora: 'AdaLoRA',
  'delta-lora': 'Delta-LoRA',
  dora: 'DoRA',
  'dp-dylora': 'DP-DyLoRA',
  dylora: 'DyLoRA',
  full: 'Full fine-tuning',
  loha: 'LoHa',
  lokr: 'LoKr',
  lora: 'LoRA',
  'lora-drop': 'LoRA-drop',
  'lora-fa': 'LoRA-FA',
  'lora-plus': 'LoRA+',
  miss: 'MiSS',
  oft: 'OFT',
  qlora: 'QLoRA',
  vera: 'VeRA',
}
