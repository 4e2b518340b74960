/**
 * Makes the base model of `lowrank demo` from nothing, in demo/base: text that this folder invents, a tokenizer, random
 * weights, and a training run by lowrank itself. Then the task's data (write_task.mjs).
 *
 *   npm run build && node scripts/demo/train_base.mjs [--python python3] [--resume]
 *
 * The Python needs the package `tokenizers`. Interrupted, it goes on with --resume.
 */
import { spawnSync } from 'node:child_process'
import { copyFileSync, existsSync, mkdirSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { writeSafetensors } from '../../dist/esm/files/safetensors.js'
import { writeLines } from './lines.mjs'
import { ASSISTANT, document, END, USER } from './text.mjs'
import { Random } from './world.mjs'
import { writeTask } from './write_task.mjs'

const SEED = 1
const DOCUMENTS = 110_000

const CONFIG = {
  architectures: ['LlamaForCausalLM'],
  model_type: 'llama',
  hidden_size: 192,
  intermediate_size: 512,
  num_hidden_layers: 5,
  num_attention_heads: 3,
  num_key_value_heads: 3,
  head_dim: 64,
  vocab_size: 2560,
  max_position_embeddings: 1024,
  hidden_act: 'silu',
  rms_norm_eps: 1e-5,
  rope_theta: 10000,
  tie_word_embeddings: true,
  attention_bias: false,
  mlp_bias: false,
  bos_token_id: null,
  eos_token_id: 0,
  torch_dtype: 'bfloat16',
}

const CHAT_TEMPLATE =
  "{% for message in messages %}{{ '<|' + message['role'] + '|>' + message['content'] + '<|end|>' }}{% endfor %}" +
  "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"

const here = fileURLToPath(new URL('.', import.meta.url))
const root = join(here, '..', '..')
const work = join(root, 'out', 'demo')
const demo = join(root, 'demo')

function run(command, ...args) {
  const { status, error } = spawnSync(command, args, { stdio: 'inherit' })
  if (error) throw error
  if (status !== 0) process.exit(status ?? 1)
}

function writeTokenizer(folder, python) {
  run(
    python,
    join(here, 'tokenizer.py'),
    join(work, 'text.jsonl'),
    join(folder, 'tokenizer.json'),
    String(CONFIG.vocab_size),
  )
  const config = {
    tokenizer_class: 'PreTrainedTokenizerFast',
    model_max_length: CONFIG.max_position_embeddings,
    clean_up_tokenization_spaces: false,
    bos_token: null,
    eos_token: END,
    pad_token: END,
    additional_special_tokens: [USER, ASSISTANT, '<|system|>'],
    chat_template: CHAT_TEMPLATE,
  }
  writeFileSync(join(folder, 'tokenizer_config.json'), `${JSON.stringify(config, null, 2)}\n`)
}

/** Normal numbers of a standard deviation, as bf16. */
function normal(random, count, deviation) {
  const values = Float32Array.from({ length: count }, () => {
    const radius = Math.sqrt(-2 * Math.log(1 - random.next()))
    return radius * Math.cos(2 * Math.PI * random.next()) * deviation
  })
  const bits = new Uint32Array(values.buffer)
  return Uint16Array.from(bits, (word) => (word + 0x7fff + ((word >>> 16) & 1)) >>> 16)
}

/** The usual initialisation: narrow normals, narrower where a block adds to the residual stream; norms are ones. */
async function writeRandomWeights(folder) {
  const {
    hidden_size: hidden,
    intermediate_size: inner,
    num_hidden_layers: layers,
    vocab_size: vocab,
  } = CONFIG
  const random = new Random(SEED)
  const tensors = []
  const add = (name, shape, deviation) => {
    const count = shape.reduce((a, b) => a * b, 1)
    const words = deviation === null ? new Uint16Array(count).fill(0x3f80) : normal(random, count, deviation)
    tensors.push({ name, dtype: 'BF16', shape, data: new Uint8Array(words.buffer) })
  }
  const narrow = 0.04 / Math.sqrt(2 * layers)
  add('model.embed_tokens.weight', [vocab, hidden], 0.04)
  for (let i = 0; i < layers; i++) {
    const at = (name) => `model.layers.${i}.${name}.weight`
    add(at('input_layernorm'), [hidden], null)
    for (const name of ['q_proj', 'k_proj', 'v_proj']) add(at(`self_attn.${name}`), [hidden, hidden], 0.04)
    add(at('self_attn.o_proj'), [hidden, hidden], narrow)
    add(at('post_attention_layernorm'), [hidden], null)
    for (const name of ['gate_proj', 'up_proj']) add(at(`mlp.${name}`), [inner, hidden], 0.04)
    add(at('mlp.down_proj'), [hidden, inner], narrow)
  }
  add('model.norm.weight', [hidden], null)
  await writeSafetensors(join(folder, 'model.safetensors'), tensors, { format: 'pt' })
  writeFileSync(join(folder, 'config.json'), `${JSON.stringify(CONFIG, null, 2)}\n`)
}

const { values } = parseArgs({
  options: { python: { type: 'string', default: 'python3' }, resume: { type: 'boolean', default: false } },
})
if (!values.resume) {
  rmSync(work, { recursive: true, force: true })
  mkdirSync(join(work, 'random'), { recursive: true })
  await writeLines(join(work, 'text.jsonl'), DOCUMENTS, (index) => ({ text: document(SEED, index) }))
  writeTokenizer(join(work, 'random'), values.python)
  await writeRandomWeights(join(work, 'random'))
}
const checkpoints = existsSync(join(work, 'base')) ? readdirSync(join(work, 'base')) : []
const resume = checkpoints.some((name) => name.startsWith('checkpoint-')) ? ['--resume'] : []
run(process.execPath, join(root, 'dist/esm/cli/main.js'), 'train', join(here, 'base.yaml'), ...resume)
mkdirSync(join(demo, 'base'), { recursive: true })
for (const name of ['config.json', 'model.safetensors', 'tokenizer.json', 'tokenizer_config.json'])
  copyFileSync(join(work, 'base', name), join(demo, 'base', name))
await writeTask(demo)
