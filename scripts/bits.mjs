// Pins the numbers of the engine while its code moves: records what a grid of runs plans and computes, and compares two
// records. A change that means to leave every number where it is records before and after.
//
//   npm run build && node scripts/bits.mjs record before.json [--only lora] [--root CLONE]
//   node scripts/bits.mjs compare before.json after.json
//
// A case trains ten steps on a model of test/parity/models and keeps: the steps and buffers of every plan that it makes
// (as LOWRANK_LOG=plan,arena prints them), the loss and gradient norm of every step as the 64 bits of the double, and
// SHA-256 of the adapter's values, of logits and of merged files. Bits depend on the processor and on the compiler, so
// records of one machine are compared with one another and none is committed. Plans of 1B to 70B shapes are recorded
// from their shapes alone.
//
// Compared: bits must be equal and peaks must not grow. Plans whose text differs are counted, and shown with --diff.
import { createHash } from 'node:crypto'
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { parseArgs } from 'node:util'

const { values: options, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    only: { type: 'string' },
    root: { type: 'string', default: resolve(import.meta.dirname, '..') },
    diff: { type: 'boolean', default: false },
  },
})
const COLORS = ['red', 'green', 'blue', 'white', 'black']
const ROWS = Array.from({ length: 48 }, (_, i) => ({
  prompt: `Color of thing ${i % 7} in row ${i}?`,
  completion: ` It is ${COLORS[i % COLORS.length]}.`,
  client: `c${i % 6}`,
}))

const [verb, ...files] = positionals
if (verb === 'record' && files.length === 1) await record(files[0])
else if (verb === 'compare' && files.length === 2) compare(...files)
else throw new Error('node scripts/bits.mjs record FILE | compare BEFORE AFTER')

async function record(file) {
  process.env.LOWRANK_LOG = 'plan,arena'
  const root = resolve(options.root)
  const lib = await import(join(root, 'dist/esm/index.js'))
  const { addon } = await import(join(root, 'dist/esm/native/addon.js'))
  const work = mkdtempSync(join(tmpdir(), 'lowrank-bits-'))
  const context = { lib, addon: addon(), work, models: models(root, work), began: performance.now() }
  const found = {}
  try {
    for (const entry of [...grid(lib, addon().cpu()), ...tasks(lib, addon().cpu())])
      if (options.only === undefined || entry.name.includes(options.only)) {
        found[entry.name] = await run(entry, context)
        process.stdout.write(`\r${Object.keys(found).length} ${entry.name}\x1b[K`)
      }
    if (options.only === undefined || 'shapes'.includes(options.only))
      for (const [name, planned] of shapes(lib, addon())) found[name] = await planned()
  } finally {
    rmSync(work, { recursive: true, force: true })
  }
  writeFileSync(file, JSON.stringify(found))
  const seconds = (performance.now() - context.began) / 1000
  console.log(`\r${Object.keys(found).length} cases in ${seconds.toFixed(0)} s\x1b[K`)
}

/** Folders by name, each with a tokenizer of single bytes. */
function models(root, work) {
  const folders = {}
  return (name) => {
    if (folders[name] !== undefined) return folders[name]
    const folder = join(work, 'models', name)
    cpSync(join(root, 'test/parity/models', name), folder, { recursive: true })
    const { vocab_size } = JSON.parse(readFileSync(join(folder, 'config.json'), 'utf8'))
    writeFileSync(join(folder, 'tokenizer.json'), JSON.stringify(byteTokenizer(vocab_size)))
    folders[name] = folder
    return folder
  }
}

function byteTokenizer(ids) {
  const printable = (byte) => (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xac) || byte >= 0xae
  let next = 256
  const letters = Array.from({ length: 256 }, (_, byte) =>
    String.fromCodePoint(printable(byte) ? byte : next++),
  )
  const used = letters.filter((_, byte) => byte < 0x80).slice(0, ids - 1)
  const vocab = Object.fromEntries(['<end>', ...used].map((token, id) => [token, id]))
  const special = {
    id: 0,
    content: '<end>',
    single_word: false,
    lstrip: false,
    rstrip: false,
    normalized: false,
    special: true,
  }
  const level = { type: 'ByteLevel', add_prefix_space: false, trim_offsets: true, use_regex: true }
  return {
    version: '1.0',
    truncation: null,
    padding: null,
    added_tokens: [special],
    normalizer: null,
    pre_tokenizer: level,
    post_processor: null,
    decoder: level,
    model: {
      type: 'BPE',
      dropout: null,
      unk_token: null,
      continuing_subword_prefix: null,
      end_of_word_suffix: null,
      fuse_unk: false,
      byte_fallback: false,
      ignore_merges: false,
      vocab,
      merges: [],
    },
  }
}

/** Every strategy and its variants, over precisions, bases, memory options, families and levels: a covering, not a product. */
function grid(lib, { isa: best, levels }) {
  const base = { r: 4, loraAlpha: 8, targetModules: 'all-linear' }
  const dropped = { ...base, loraDropout: 0.1 }
  const lycoris = { r: 4, alpha: 8, targetModules: 'all-linear' }
  const strategies = {
    lora: lib.lora(base),
    'lora/dropout': lib.lora(dropped),
    'lora/embedding': lib.lora({ ...base, targetModules: ['q_proj', 'v_proj', 'embed_tokens'] }),
    'lora/copies': lib.lora({
      ...base,
      targetModules: ['q_proj', 'down_proj'],
      modulesToSave: ['lm_head', 'model.norm'],
    }),
    'lora-fa': lib.loraFa(base),
    'lora-plus': lib.loraPlus({ adapter: lib.lora(base) }),
    dora: lib.dora(base),
    'dora/dropout': lib.dora(dropped),
    'delta-lora': lib.deltaLora({ ...base, startStep: 2 }),
    dylora: lib.dylora(base),
    'dylora/last': lib.dylora({ ...base, trainedRanks: 'last' }),
    'dp-dylora': lib.dpDylora({
      adapter: lib.dylora(base),
      privacyUnit: 'example',
      rounds: 10,
      cohort: 8,
      targetEpsilon: 8,
      noiseKey: '11'.repeat(32),
    }),
    adalora: lib.adalora({
      initR: 6,
      targetR: 3,
      tinit: 2,
      tfinal: 3,
      deltaT: 1,
      targetModules: 'all-linear',
    }),
    vera: lib.vera({ r: 8, targetModules: ['q_proj', 'v_proj'] }),
    'vera/dropout': lib.vera({ r: 8, veraDropout: 0.1, targetModules: ['q_proj', 'v_proj'] }),
    loha: lib.loha(lycoris),
    'loha/dropped': lib.loha({ ...lycoris, rankDropout: 0.2, moduleDropout: 0.1 }),
    lokr: lib.lokr(lycoris),
    miss: lib.miss({ r: 8, targetModules: 'all-linear' }),
    oft: lib.oft({ oftBlockSize: 8, targetModules: 'all-linear' }),
    hira: lib.hira({ r: 4, targetModules: 'all-linear' }),
    'hira/dropout': lib.hira({ r: 4, hiraDropout: 0.1, targetModules: 'all-linear' }),
    'lokr/both': lib.lokr({ ...lycoris, decomposeBoth: true, rankDropout: 0.2 }),
    'lora-drop': lib.loraDrop({
      ...base,
      keep: ['model.layers.0.self_attn.q_proj', 'model.layers.1.mlp.down_proj'],
    }),
    full: lib.full(),
  }
  const cases = []
  const add = (name, strategy, more = {}) =>
    cases.push({
      name,
      strategy,
      model: 'smollm2',
      precision: 'fp32',
      quantization: 'none',
      isa: best,
      threads: 1,
      train: {},
      ...more,
    })
  for (const [name, strategy] of Object.entries(strategies))
    for (const precision of ['fp32', 'bf16'])
      for (const gradientCheckpointing of [false, true])
        add(`${name} ${precision} ${gradientCheckpointing ? 'checkpointed' : 'plain'}`, strategy, {
          precision,
          train: { gradientCheckpointing },
          merge: precision === 'fp32' && !gradientCheckpointing,
        })
  const inBackward = { optimizerInBackward: true, maxGradNorm: 0 }
  const memory = {
    'keep attention': { gradientCheckpointing: true, keepAttention: true },
    offload: { gradientCheckpointing: true, activationOffloading: true },
    'in backward': inBackward,
    'in backward, checkpointed': { ...inBackward, gradientCheckpointing: true },
    'small logits': { logitsMemory: '1KiB' },
    '8 bits': { optimizer: 'adamw_8bit' },
    paged: { optimizer: 'paged_adamw' },
    adafactor: { optimizer: 'adafactor' },
    lion: { optimizer: 'lion' },
    sgd: { optimizer: 'sgd' },
    accumulated: { gradientAccumulationSteps: 2 },
    'not packed': { packing: false },
  }
  const some = ['lora', 'dora/dropout', 'loha', 'lokr', 'full']
  for (const name of some) {
    for (const [option, train] of Object.entries(memory))
      add(`${name}, ${option}`, strategies[name], { train: { gradientCheckpointing: false, ...train } })
    add(`${name}, biases`, strategies[name], { model: 'qwen2' })
  }
  for (const model of [
    'llama2',
    'llama3',
    'mistral_window',
    'odd',
    'qwen2_window',
    'qwen3',
    'qwen3_window',
    'tinyllama',
  ])
    for (const quantization of ['none', 'nf4', 'int8'])
      add(`lora on ${model} ${quantization}`, strategies.lora, { model, quantization })
  for (const name of Object.keys(strategies))
    add(`${name} on qwen3 bf16`, strategies[name], {
      model: 'qwen3',
      precision: 'bf16',
      merge: name === 'lora' || name === 'full',
    })
  for (const quantization of ['nf4', 'fp4', 'int8'])
    for (const name of ['dora', 'vera', 'delta-lora', 'lokr'])
      for (const precision of ['fp32', 'bf16'])
        add(`${name} over ${quantization} ${precision}`, strategies[name], {
          quantization,
          precision,
          merge: precision === 'fp32',
        })
  for (const name of ['lora', 'dora'])
    add(`${name}, paged base`, strategies[name], { quantization: 'nf4', load: { pagedWeights: '1MiB' } })

  for (const isa of levels)
    for (const name of ['lora', 'dora', 'loha', 'lokr'])
      for (const precision of ['fp32', 'bf16'])
        add(`${name} at ${isa} ${precision}`, strategies[name], { isa, precision })
  for (const name of some) add(`${name}, two threads`, strategies[name], { threads: 2 })
  add('two adapters', strategies.lora, { beside: strategies.dora })
  add('two adapters bf16', strategies.dora, { beside: strategies.lokr, precision: 'bf16' })
  return cases
}

/** Every task and its losses, each evaluated in between. */
function tasks(lib, { isa }) {
  const answers = ROWS.map(({ prompt, completion }, i) => ({
    ...{ prompt, completion },
    other: ` No: ${COLORS[(i + 2) % COLORS.length]}, or so.`,
  }))
  const pairs = answers.map(({ prompt, completion: chosen, other: rejected }) => ({
    prompt,
    chosen,
    rejected,
  }))
  const verdicts = answers.map(({ prompt, completion, other }, i) => ({
    ...{ prompt, completion: i % 3 === 0 ? other : completion },
    label: i % 3 !== 0,
  }))
  const classes = ROWS.map(({ prompt }, i) => ({ text: prompt, label: COLORS[i % 3] }))
  const reward = ({ prediction }) => prediction.length % 7
  const sampled = { rewardFunctions: reward, numGenerations: 3, maxCompletionLength: 8 }
  const rows = { classification: classes, dpo: pairs, orpo: pairs, kto: verdicts, grpo: ROWS }
  const cases = [
    ['classification', {}],
    ['classification', { classWeights: 'balanced' }],
    ['dpo', {}],
    ['dpo', { labelSmoothing: 0.2, beta: 0.3 }],
    ['dpo', { lossType: 'ipo' }],
    ['orpo', {}],
    ['orpo', { nllOn: 'completions', packing: false }],
    ['kto', {}],
    ['kto', { desirableWeight: 1.5, undesirableWeight: 0.5, packing: false }],
    ...['dapo', 'grpo', 'dr_grpo'].map((lossType) => ['grpo', { ...sampled, lossType }]),
    ['grpo', { ...sampled, scaleRewards: 'batch' }],
  ]
  return cases.map(([task, options]) => {
    const { rewardFunctions: _, ...shown } = options
    return {
      name: `task ${task} ${JSON.stringify(shown)}`,
      strategy: lib.lora({ r: 4, loraAlpha: 8, targetModules: 'all-linear' }),
      ...{ model: 'smollm2', precision: 'fp32', quantization: 'none', isa, threads: 1 },
      ...(task === 'classification' ? { load: { labels: COLORS.slice(0, 3) } } : {}),
      rows: rows[task],
      train: { task, evalSteps: 5, maxSteps: 6, perDeviceTrainBatchSize: 2, ...options },
    }
  })
}

async function run(entry, { lib, addon, work, models }) {
  addon.configure({ isa: entry.isa, threads: entry.threads })
  const log = []
  const { write } = process.stderr
  process.stderr.write = (text) => log.push(text)
  try {
    const { quantization, precision } = entry
    const model = await lib.loadModel(models(entry.model), {
      quantization,
      precision,
      threads: entry.threads,
      ...entry.load,
    })
    const adapter = await model.attach(entry.strategy, { seed: 1 })
    const steps = []
    const run = adapter.train(entry.rows ?? ROWS, {
      perDeviceTrainBatchSize: 4,
      maxSeqLength: 64,
      numTrainEpochs: 100,
      maxSteps: entry.strategy.rounds ? null : 10,
      learningRate: 0.005,
      weightDecay: 0.1,
      seed: 7,
      evalFraction: 0.1,
      chatTemplate: false,
      ...entry.train,
    })
    for await (const { loss, gradNorm } of run) steps.push(bits(loss), bits(gradNorm))
    const kept = join(work, 'adapter')
    await adapter.save(kept)
    const values = sha(
      readFileSync(
        join(kept, entry.strategy.name === 'full' ? 'model.safetensors' : 'adapter_model.safetensors'),
      ),
    )
    rmSync(kept, { recursive: true })
    if (entry.rows !== undefined) {
      await model.dispose()
      const plan = log.join('')
      return { steps, evaluations: run.evaluations, values, plan, peaks: peaksOf(plan) }
    }
    if (entry.beside !== undefined) {
      const other = await model.attach(entry.beside, { seed: 2 })
      for await (const _ of other.train(ROWS, {
        maxSteps: 3,
        maxSeqLength: 64,
        learningRate: 0.005,
        chatTemplate: false,
      }));
      model.use({ adapter, weight: 0.75 }, { adapter: other, weight: 0.5 })
    }
    const tokens = Int32Array.from({ length: 40 }, (_, i) => 1 + ((i * 37) % 100))
    const logits = sha(new Uint8Array((await model.logits(tokens)).buffer))
    const { loss } = await model.evaluate(ROWS.slice(0, 9), { maxSeqLength: 64 })
    const { tokenIds } = await model.generate('Color of', {
      maxNewTokens: 12,
      temperature: 0.7,
      seed: 3,
      chatTemplate: false,
    })
    let merged
    if (entry.merge) {
      const folder = join(work, 'merged')
      await adapter.merge(folder)
      merged = sha(readFileSync(join(folder, 'model.safetensors')))
      rmSync(folder, { recursive: true })
    }
    await model.dispose()
    const plan = log.join('')
    return { steps, values, logits, evaluated: bits(loss), tokenIds, merged, plan, peaks: peaksOf(plan) }
  } finally {
    process.stderr.write = write
  }
}

/** Ends of the last buffer of every arena that was printed. */
function peaksOf(plan) {
  return plan
    .split('--- ')
    .filter((part) => part.startsWith('arena'))
    .map((part) => Math.max(...[...part.matchAll(/\[\d+, (\d+)\)/g)].map(([, end]) => Number(end))))
}

/** Plans that small models cannot show: several slices of the vocabulary, chunks of logits, split sums. */
function* shapes(lib, addon) {
  const work = mkdtempSync(join(tmpdir(), 'lowrank-shapes-'))
  process.on('exit', () => rmSync(work, { recursive: true, force: true }))
  const sizes = {
    '1B': [2048, 8192, 4, 32, 8, 128256],
    '8B': [4096, 14336, 4, 32, 8, 128256],
    '70B': [8192, 28672, 4, 64, 8, 128256],
  }
  const linear = { targetModules: 'all-linear' }
  const strategies = {
    lora: lib.lora(linear),
    dora: lib.dora({ ...linear, loraDropout: 0.1 }),
    loha: lib.loha({ ...linear, r: 32 }),
    lokr: lib.lokr(linear),
    'delta-lora': lib.deltaLora(linear),
    full: lib.full(),
    'lora/copies': lib.lora({ ...linear, modulesToSave: ['lm_head'] }),
  }
  for (const [size, [hidden, inner, layers, heads, kv, vocab]] of Object.entries(sizes)) {
    const folder = join(work, size)
    mkdirSync(folder)
    writeFileSync(
      join(folder, 'config.json'),
      JSON.stringify({
        architectures: ['LlamaForCausalLM'],
        model_type: 'llama',
        hidden_size: hidden,
        intermediate_size: inner,
        num_hidden_layers: layers,
        num_attention_heads: heads,
        num_key_value_heads: kv,
        vocab_size: vocab,
        rms_norm_eps: 1e-5,
        rope_theta: 5e5,
        torch_dtype: 'bfloat16',
        tie_word_embeddings: false,
        hidden_act: 'silu',
        max_position_embeddings: 8192,
      }),
    )
    for (const [name, strategy] of Object.entries(strategies))
      for (const precision of ['fp32', 'bf16'])
        for (const gradientCheckpointing of [false, true])
          for (const perDeviceTrainBatchSize of [1, 8])
            yield [
              `shapes ${size} ${name} ${precision} ${gradientCheckpointing} ${perDeviceTrainBatchSize}`,
              async () => {
                addon.configure({ threads: 2 })
                const quantization = name === 'full' ? 'none' : 'nf4'
                const report = await lib.planModel(join(folder, 'config.json'), {
                  strategy,
                  precision,
                  quantization,
                  gradientCheckpointing,
                  perDeviceTrainBatchSize,
                  maxSeqLength: 512,
                  evaluates: true,
                  threads: 2,
                })
                return { plan: JSON.stringify(report), peaks: [report.peakBytes] }
              },
            ]
  }
}

function compare(first, second) {
  const [before, after] = [first, second].map((file) => JSON.parse(readFileSync(file, 'utf8')))
  let bad = 0
  let texts = 0
  const wrong = (name, what) => {
    bad++
    console.log(`${name}: ${what}`)
  }
  for (const name of Object.keys(before)) if (after[name] === undefined) wrong(name, 'is gone')
  for (const [name, b] of Object.entries(after)) {
    const a = before[name]
    if (a === undefined) continue
    for (const what of ['steps', 'evaluations', 'values', 'logits', 'evaluated', 'tokenIds', 'merged'])
      if (JSON.stringify(a[what]) !== JSON.stringify(b[what])) wrong(name, `${what} moved`)
    if (a.peaks.length !== b.peaks.length || b.peaks.some((peak, i) => peak > a.peaks[i]))
      wrong(name, `peaks ${a.peaks} became ${b.peaks}`)
    if (a.plan === b.plan) continue
    texts++
    if (options.diff) show(name, a.plan.split('\n'), b.plan.split('\n'))
  }
  console.log(`${Object.keys(after).length} cases: ${bad} wrong, ${texts} with other plans`)
  if (bad > 0) process.exitCode = 1
}

function show(name, before, after) {
  const at = before.findIndex((line, i) => line !== after[i])
  console.log(`${name}, line ${at + 1} of its plans:\n- ${before[at]}\n+ ${after[at]}`)
}

function bits(number) {
  return Buffer.from(new Float64Array([number]).buffer).toString('hex')
}

function sha(bytes) {
  return createHash('sha256').update(bytes).digest('hex')
}
