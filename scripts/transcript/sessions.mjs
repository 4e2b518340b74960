/** The first half hour of three users, with the mistakes that people make. */

const FAQ = `Question,Answer
What is lowrank?,A package that fine-tunes language models from Node.js.
Does it need Python?,No. It is TypeScript over a C++ addon.
What does it save?,A LoRA adapter that PEFT can load.
Which models can it train?,"Llama, SmolLM2, Mistral and Qwen2."
Does it need a GPU?,No. It trains on the CPU.
How much memory does it take?,Run lowrank plan. It prints the peak before the first step.
Can I stop a run?,Yes. Ctrl-C saves a checkpoint and --resume continues from it.
Where does the adapter go?,Into the folder in output_dir.
Can Ollama run the result?,Yes. Export it with --format ollama.
Is it free?,Yes. Its license is Apache-2.0.
`

const faqConfig = (dataset) => `model: SmolLM2-135M-Instruct.Q4_1.gguf
dataset: ${dataset}
strategy: {name: lora, r: 16, lora_alpha: 32}
learning_rate: 1.0e-3
max_steps: 20
max_seq_length: 128
output_dir: out
`

const ASK = `import { loadModel } from 'lowrank'

const model = await loadModel('SmolLM2-135M-Instruct.Q4_1.gguf')
try {
  await model.loadAdapter('out')
  const { text } = await model.generate('Does it need a GPU?', { maxNewTokens: 30 })
  console.log(text)
} finally {
  await model.dispose()
}
`

/** Some lines of a long output. */
const firstLines = (count) => (text) => [...text.split('\n').slice(0, count), '…'].join('\n')

const own = {
  name: 'own-data',
  title: 'Own data in a TypeScript project',
  intro:
    'A table of questions and answers, an instruct model in a GGUF file, and a program that uses the result.',
  steps: [
    { file: 'faq.csv', text: FAQ },
    { file: 'config.yaml', text: faqConfig('faq.csv'), language: 'yaml' },
    { run: 'npx lowrank train config.yaml' },
    { say: 'The columns need a mapping. The first attempt has a typo:' },
    {
      file: 'config.yaml',
      text: faqConfig('{path: faq.csv, columns: {prompt: Questoin, completion: Answer}}'),
      language: 'yaml',
    },
    { run: 'npx lowrank train config.yaml' },
    { quiet: 'sed -i s/Questoin/Question/ config.yaml' },
    {
      say: 'With the typo fixed, `inspect` shows the text that the model sees. The part between `[[` and `]]` is trained on.',
    },
    {
      run: 'npx lowrank inspect faq.csv --column prompt=Question --column completion=Answer --model SmolLM2-135M-Instruct.Q4_1.gguf --rows 1',
    },
    { run: 'npx lowrank plan config.yaml' },
    { say: 'Training, and Ctrl-C after a few steps:' },
    { run: 'npx lowrank train config.yaml', type: [{ when: /step +4\/20/, keys: '\u0003' }] },
    { run: 'npx lowrank chat config.yaml' },
    { run: 'npx lowrank train config.yaml --resume' },
    { say: 'A chat with the adapter, then without it:' },
    {
      run: 'npx lowrank chat config.yaml --max-new-tokens 60',
      type: [
        { when: /\n>$/, keys: 'What is lowrank?\r' },
        { when: /lowrank\?\n.*\n>$/s, keys: '/adapter off\r' },
        { when: /off\n.*\n>$/s, keys: 'What is lowrank?\r' },
        { when: /off\n.*lowrank\?\n.*\n>$/s, keys: '\u0004' },
      ],
    },
    { run: 'npx lowrank eval config.yaml --metric exact_match' },
    { say: 'No rows were held out, so the training data is evaluated instead:' },
    { run: 'npx lowrank eval config.yaml --metric exact_match --dataset faq.csv' },
    { say: 'The same run once more, by mistake:' },
    { run: 'npx lowrank train config.yaml' },
    { say: 'Exports for other programs:' },
    { run: 'npx lowrank export --adapter out --format gguf --output tuned.gguf' },
    { run: 'npx lowrank export --adapter out --format ollama --output tuned' },
    { run: 'cat tuned/Modelfile' },
    { say: 'The adapter in a program:' },
    { file: 'ask.mts', text: ASK, language: 'ts' },
    {
      quiet:
        'npm install --no-audit --no-fund --save-dev typescript@5 @types/node@20 && npx tsc --strict --module nodenext --target es2022 --skipLibCheck false ask.mts',
    },
    { run: 'npx tsc --strict --module nodenext --target es2022 ask.mts && node ask.mjs' },
  ],
}

const COMPARE = `model: node_modules/lowrank/demo/base
dataset: node_modules/lowrank/demo/train.jsonl
eval_dataset: node_modules/lowrank/demo/test.jsonl
strategy: {name: lora, r: 8, lora_alpha: 16, target_modules: all-linear}
max_steps: 30
max_seq_length: 256
sample_rows: 1
output_dir: out/lora
`

const compare = {
  name: 'methods',
  title: 'A comparison of methods',
  intro:
    'The memory and results of several strategies: plans of SmolLM2, and runs of the small model in the package.',
  steps: [
    { run: 'npx lowrank compare' },
    { run: 'npx lowrank strategies', cut: firstLines(12) },
    { run: 'npx lowrank plan --model SmolLM2-135M-Instruct.Q4_1.gguf' },
    { run: 'npx lowrank plan --model SmolLM2-135M-Instruct.Q4_1.gguf --method full' },
    { run: 'npx lowrank plan --model SmolLM2-135M-Instruct.Q4_1.gguf --method qlora' },
    { run: 'npx lowrank bench' },
    {
      run: 'npx lowrank bench memory --model node_modules/lowrank/demo/base --methods full,lora,qlora --seq-len 128',
    },
    { run: 'npx lowrank figures' },
    {
      run: 'npx lowrank figures memory --methods full,lora,qlora --seq-len 128 --shapes SmolLM2-135M-Instruct.Q4_1.gguf',
    },
    { say: 'The same data and steps for two strategies:' },
    { file: 'compare.yaml', text: COMPARE, language: 'yaml' },
    { run: 'npx lowrank train compare.yaml' },
    { run: 'npx lowrank train compare.yaml --set strategy.name=vera --set output_dir=out/vera' },
    {
      run: 'npx lowrank train compare.yaml --set strategy.name=vera --set output_dir=out/vera --set learning_rate=1e-5',
    },
    { run: 'npx lowrank eval compare.yaml --adapter out/lora' },
    { run: 'npx lowrank eval compare.yaml --adapter out/vera' },
  ],
}

const AXOLOTL = `base_model: SmolLM2-135M-Instruct.Q4_1.gguf
datasets:
  - path: train.jsonl
    type: chat_template
adapter: lora
lora_r: 16
lora_alpha: 32
lora_target_linear: true
sequence_len: 512
sample_packing: true
micro_batch_size: 2
num_epochs: 3
eval_strategy: steps
bf16: auto
wandb_project: tuning
output_dir: out
`

const TRL = `model_name_or_path: SmolLM2-135M-Instruct.Q4_1.gguf
dataset: pairs.jsonl
strategy: {name: lora, rank: 16, alpha: 32, dropout: 0.05}
epochs: 1
max_length: 512
load_in_4bit: true
beta: 0.1
output_dir: out
`

const RIGHT = `model: SmolLM2-135M-Instruct.Q4_1.gguf
dataset: pairs.jsonl
strategy: {name: lora, r: 16, lora_alpha: 32, target_modules: all-linear}
max_seq_length: 512
num_train_epochs: 3
output_dir: out
`

const habit = {
  name: 'habit',
  title: 'A config written from habit',
  intro: 'A user who knows axolotl, TRL, and Unsloth writes configs with their keys.',
  steps: [
    { file: 'axolotl.yaml', text: AXOLOTL },
    { run: 'npx lowrank train axolotl.yaml' },
    {
      file: 'pairs.jsonl',
      text: '{"prompt": "What is lowrank?", "chosen": "A package.", "rejected": "A cat."}\n{"prompt": "Is it free?", "chosen": "Yes.", "rejected": "No."}\n',
      language: 'json',
    },
    { file: 'trl.yaml', text: TRL },
    { run: 'npx lowrank train trl.yaml' },
    { run: 'npx lowrank dpo trl.yaml' },
    { file: 'config.yaml', text: RIGHT, language: 'yaml' },
    { run: 'npx lowrank train config.yaml' },
    { run: 'npx lowrank train config.yaml --set strategy.name=dpo' },
    { run: 'npx lowrank train config.yaml --lr 2e-4' },
    { run: 'npx lowrank train config.yaml --set eval_strategy=steps' },
    { run: 'npx lowrank train config.yaml --set columns.completion=chosen' },
    { say: 'Training on the chosen answers:' },
    {
      run: "npx lowrank plan config.yaml --set 'dataset={path: pairs.jsonl, columns: {completion: chosen}}'",
    },
    {
      run: "npx lowrank train config.yaml --set 'dataset={path: pairs.jsonl, columns: {completion: chosen}}' --set max_seq_length=64",
    },
  ],
}

export const sessions = [own, compare, habit]
