/**
 * Makes the base model of `lowrank demo` from nothing, in demo/base: text that this folder invents, a tokenizer, random
 * weights, and two training runs by lowrank itself, first on documents (text.yaml), then on chats (chats.yaml). Then
 * the task's data (write_task.mjs).
 *
 *   npm run build && node scripts/demo/train_base.mjs [--python python3] [--resume]
 *
 * The Python needs the package `tokenizers`. Interrupted, it goes on with --resume.
 */
import { spawnSync } from 'node:child_process'
import { copyFileSync, existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { readSafetensorsHeader, readTensor, writeSafetensors } from '../../dist/esm/formats/safetensors.js'
import { loadConfig, loadModel } from '../../dist/esm/index.js'
import { trainShape } from '../../dist/esm/options/options.js'
import { listCheckpoints } from '../../dist/esm/train/checkpoints/checkpoint-folder.js'
import { chatRow } from './chats.mjs'
import { writeLines } from './lines.mjs'
import { ASSISTANT, document, END, USER } from './text.mjs'
import { Random } from './world.mjs'
import { writeTask } from './write_task.mjs'

const SEED = 1
const DOCUMENTS = 110_000
const CHATS = 34_000
/** End of reading: the rate has fallen to a third by then, and the chats teach the rest faster. */
const TEXT_STEPS = 2500

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

const EMBEDDING = 'model.embed_tokens.weight'

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
  return bfloat16(values)
}

/** Rounded to the nearest, of two the even one. */
function bfloat16(values) {
  const bits = new Uint32Array(values.buffer)
  return Uint16Array.from(bits, (word) => (word + 0x7fff + ((word >>> 16) & 1)) >>> 16)
}

/** The number of a bf16 word. */
function single(word) {
  return new Float32Array(Uint32Array.of(word << 16).buffer)[0]
}

/** The usual initialization: narrow normals, narrower where a block adds to the residual stream; norms are ones. */
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
  add(EMBEDDING, [vocab, hidden], 0.04)
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

/**
 * Gives the model a head of its own and shakes its embeddings. While one matrix was both, words that may all stand in
 * one place, such as the months, had to be equally likely there and so became alike, and what is alike cannot be told
 * apart when it is read.
 */
export async function untie(from, to) {
  const header = await readSafetensorsHeader(join(from, 'model.safetensors'))
  const random = new Random(SEED)
  const tensors = []
  for (const { name, dtype, shape } of header.tensors.values()) {
    const data = await readTensor(header, name)
    if (name !== EMBEDDING) {
      tensors.push({ name, dtype, shape, data })
      continue
    }
    const noise = normal(random, data.length / 2, 0.05)
    const shaken = new Uint16Array(data.buffer.slice(data.byteOffset, data.byteOffset + data.length))
    const sum = Float32Array.from(shaken, (word, i) => single(word) + single(noise[i]))
    tensors.push({ name, dtype, shape, data: new Uint8Array(bfloat16(sum).buffer) })
    tensors.push({ name: 'lm_head.weight', dtype, shape, data })
  }
  mkdirSync(to, { recursive: true })
  await writeSafetensors(join(to, 'model.safetensors'), tensors, { format: 'pt' })
  const config = JSON.parse(readFileSync(join(from, 'config.json'), 'utf8'))
  writeFileSync(
    join(to, 'config.json'),
    `${JSON.stringify({ ...config, tie_word_embeddings: false }, null, 2)}\n`,
  )
  for (const name of ['tokenizer.json', 'tokenizer_config.json'])
    copyFileSync(join(from, name), join(to, name))
}

/** Trains as a config says; with `steps`, it is left when so many have been made, and saved as it is then. */
async function train(name, { steps, output }) {
  const config = await loadConfig(join(here, name))
  const model = await loadModel(config.model, { precision: config.precision, threads: config.threads })
  try {
    const adapter = await model.attach(config.strategy, { seed: config.seed })
    const options = Object.fromEntries(Object.keys(trainShape).map((key) => [key, config[key]]))
    const { outputDir } = config
    const resume = (await listCheckpoints(outputDir)).length > 0
    for await (const { index, totalSteps, loss } of adapter.train(config.dataset, {
      ...options,
      outputDir,
      resume,
    })) {
      if (index % 10 === 0)
        console.log(`${name}: step ${index}/${steps ?? totalSteps}, loss ${loss.toFixed(4)}`)
      if (index === steps) break
    }
    await adapter.save(output)
  } finally {
    await model.dispose()
  }
}

const { values } = parseArgs({
  options: { python: { type: 'string', default: 'python3' }, resume: { type: 'boolean', default: false } },
})
const [random, reader, pupil, base] = ['random', 'reader', 'pupil', '../../demo/base'].map((name) =>
  join(work, name),
)
if (!values.resume) {
  rmSync(work, { recursive: true, force: true })
  mkdirSync(random, { recursive: true })
  await writeLines(join(work, 'text.jsonl'), DOCUMENTS, (index) => ({ text: document(SEED, index) }))
  await writeLines(join(work, 'chats.jsonl'), CHATS, (index) => chatRow(SEED, index))
  writeTokenizer(random, values.python)
  await writeRandomWeights(random)
}
if (!existsSync(reader)) await train('text.yaml', { steps: TEXT_STEPS, output: reader })
if (!existsSync(pupil)) await untie(reader, pupil)
await train('chats.yaml', { output: base })
await writeTask(demo)
const { user, system } = process.cpuUsage()
console.log(`${base} is made; it took ${Math.round((user + system) / 6e7)} minutes of processor time.`)
