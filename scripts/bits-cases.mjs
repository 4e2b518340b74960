/** Cases of scripts/bits.mjs: runs of small models, and plans of large shapes. */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

const COLORS = ['red', 'green', 'blue', 'white', 'black']
export const ROWS = Array.from({ length: 48 }, (_, i) => ({
  prompt: `Color of thing ${i % 7} in row ${i}?`,
  completion: ` It is ${COLORS[i % COLORS.length]}.`,
  client: `c${i % 6}`,
}))

/** Every strategy and its variants, over precisions, bases, memory options, families and levels: a covering, not a product. */
export function grid(lib, { isa: best, levels }) {
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
export function tasks(lib, { isa }) {
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

/** Plans that small models cannot show: several slices of the vocabulary, chunks of logits, split sums. */
export function* shapes(lib, addon) {
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
