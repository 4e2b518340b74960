import { mkdirSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { lora } from '../../../../lib/strategies/lora.js'
import { loadConfig, loadQuantization } from '../../../../lib/train/config/config.js'
import { configJsonSchema, configText } from '../../../../lib/train/config/config-schema.js'
import { nf4 } from '../../../../lib/weights/quantization.js'
import { scratchFile } from '../../scratch.js'

const minimal = `
model: org/model
strategy: {name: lora, r: 4}
dataset: train.jsonl
`

const load = (extra = '', overrides: string[] = []) =>
  loadConfig(scratchFile('config.yaml', minimal + extra), overrides)

async function messageOf(extra: string, overrides: string[] = []): Promise<string> {
  const error = await load(extra, overrides).then(
    () => expect.unreachable('the config was accepted'),
    (e) => e,
  )
  expect(error).toMatchObject({ code: 'CONFIG' })
  return error.message.replace(/^.*config\.yaml: /, '')
}

describe('a config file', () => {
  test('needs a model, a strategy and a dataset; the rest has defaults', async () => {
    const config = await load()
    expect(config).toMatchObject({
      model: 'org/model',
      precision: 'auto',
      strategy: lora({ r: 4 }),
      optimizer: null,
      learningRate: 1e-3,
      lrSchedulerType: 'cosine',
      packing: true,
      seed: 42,
      evalDataset: null,
    })
    // The files decide first, then the strategy.
    expect(config).not.toHaveProperty('quantization')
    expect(await messageOf('', ['model=null'])).toBe(
      'model is null, expected a model folder, a .gguf file or a name on the hub.',
    )
  })

  test('takes paths relative to itself', async () => {
    const path = scratchFile('config.yaml', `${minimal}eval_dataset: {path: /data/dev.jsonl, format: text}\n`)
    mkdirSync(join(dirname(path), 'tiny'))
    const config = await loadConfig(path, ['model=tiny'])
    expect(config.dataset).toMatchObject({ path: join(dirname(path), 'train.jsonl'), format: 'auto' })
    expect(config.evalDataset).toMatchObject({ path: '/data/dev.jsonl', format: 'text' })
    expect(config.outputDir).toBe(join(dirname(path), 'out'))
    expect(config.model).toBe(join(dirname(path), 'tiny'))
  })

  test('may be JSON', async () => {
    const path = scratchFile(
      'config.json',
      '{"model": "m", "strategy": {"name": "qlora"}, "dataset": "d.jsonl"}',
    )
    const config = await loadConfig(path)
    expect(config.strategy.name).toBe('qlora')
    expect(loadQuantization(config)).toEqual({ defaultQuantization: nf4() })
  })

  test('survives being written and read again', async () => {
    const config = await load(
      'optimizer: {type: adamw, betas: [0.8, 0.9]}\nquantization: nf4\nwarmup_steps: 3\n',
    )
    expect(await loadConfig(scratchFile('again.yaml', configText(config)))).toEqual(config)
  })

  test('is changed by --set, whose keys are paths and whose values are YAML', async () => {
    const config = await load('', [
      'strategy.r=16',
      'strategy.target_modules=[q_proj]',
      'max_steps=5',
      'optimizer.eps=1e-6',
      'optimizer.type=adamw',
    ])
    expect(config.strategy).toEqual(lora({ r: 16, targetModules: ['q_proj'] }))
    expect(config).toMatchObject({ maxSteps: 5, optimizer: { type: 'adamw', eps: 1e-6 } })
  })

  test.each([
    ['nope', '--set nope: expected key=value, e.g. --set strategy.r=8.'],
    ['=3', '--set =3: expected key=value, e.g. --set strategy.r=8.'],
    ['a..b=3', '--set a..b=3: expected key=value, e.g. --set strategy.r=8.'],
    ['strategy.r=[', '--set strategy.r=[: the value is not valid YAML; quote it.'],
    ['strategy.rank=3', 'unknown key strategy.rank; the name here is strategy.r.'],
    ['__proto__.x=3', 'unknown key __proto__; known keys: '],
  ])('refuses --set %s', async (override, message) => {
    expect(await messageOf('', [override])).toContain(message)
  })

  test.each([
    ['learning_rat: 1', 'unknown key learning_rat; did you mean learning_rate?'],
    ['lr: 1', 'unknown key lr; the name here is learning_rate.'],
    ['optim: adamw', 'unknown key optim; the name here is optimizer.'],
    ['device: cuda:x', 'device is "cuda:x", expected auto, cpu, cuda or the number of a GPU such as cuda:0.'],
    ['batch_size: 4', 'unknown key batch_size; the name here is per_device_train_batch_size.'],
    ['learningRate: 1', 'unknown key learningRate; did you mean learning_rate?'],
    ['learning_rate: fast', 'learning_rate is "fast", expected a number above 0, or auto.'],
    [
      'learning_rate: auto\ntask: dpo',
      'learning_rate is "auto", expected a number, since task dpo has no search.',
    ],
    ['packing: 1', 'packing is 1, expected true or false.'],
    [
      'quantization: int3',
      'quantization is "int3", expected none, nf4, fp4, int8, keep or {type: nf4, double_quant: true}.',
    ],
    ['precision: fp16', 'precision is "fp16", expected one of auto, fp32, bf16.'],
    [
      'optimizer: adamw_bnb_8bit',
      'optimizer is "adamw_bnb_8bit", expected one of adamw, adamw_8bit, paged_adamw, paged_adamw_8bit, lion, lion_8bit, adafactor, sgd, or settings (adamw_bnb_8bit is adamw_8bit here).',
    ],
    [
      'lr_scheduler_type: polynomial',
      'lr_scheduler_type is "polynomial", expected one of constant, constant_with_warmup, linear, cosine, or {type: warmup_stable_decay, num_decay_steps: …}.',
    ],
    ['warmup_ratio: 1', 'warmup_ratio is 1, expected a number in [0, 1).'],
    ['num_train_epochs: 0', 'num_train_epochs is 0, expected a number above 0.'],
    ['max_seq_length: 1', 'max_seq_length is 1, expected an integer from 2.'],
    ['train_on: prompts', 'train_on is "prompts", expected one of completions, last, all.'],
    [
      'eval_dataset: d.jsonl\neval_fraction: 0.1',
      'eval_fraction is 0.1, expected it to be absent, since eval_dataset is given.',
    ],
    ['threads: many', 'threads is "many", expected auto or an integer from 1 to 1024.'],
  ])('refuses %s', async (line, message) => {
    expect(await messageOf(`${line}\n`)).toBe(message)
  })

  test('may not contradict what its strategy stands for', async () => {
    const path = scratchFile(
      'config.yaml',
      'model: m\nstrategy: {name: qlora}\ndataset: d\nquantization: none\n',
    )
    await expect(loadConfig(path)).rejects.toThrow(
      'config.yaml: quantization is "none", expected nf4, which strategy qlora requires; remove the key or choose another strategy.',
    )
    const same = scratchFile(
      'config.yaml',
      'model: m\nstrategy: {name: qlora}\ndataset: d\nquantization: nf4\n',
    )
    expect(loadQuantization(await loadConfig(same))).toEqual({
      quantization: nf4(),
      defaultQuantization: nf4(),
    })
    const embedding = { 'strategy={name: full}': 'none', 'strategy={name: lora}': 'int8' }
    for (const [strategy, allowed] of Object.entries(embedding)) {
      const set = (type: string) =>
        loadConfig(same, [strategy, 'quantization=none', `embedding_quantization=${type}`])
      expect((await set(allowed)).embeddingQuantization).toEqual({ type: allowed })
      if (allowed === 'none')
        await expect(set('int8')).rejects.toThrow(
          'embedding_quantization is "int8", expected none, which strategy full requires',
        )
    }
    const single = await loadConfig(same, ['quantization={type: nf4, double_quant: false}'])
    expect(single.quantization).toEqual(nf4({ doubleQuant: false }))
  })

  test('starts from an adapter beside it or on the hub, where its strategy can', async () => {
    expect((await load()).initAdapter).toBeNull()
    expect((await load('init_adapter: owner/adapter\n')).initAdapter).toBe('owner/adapter')
    const path = scratchFile('config.yaml', `${minimal}init_adapter: ./first\n`)
    const first = join(dirname(path), 'first')
    expect((await loadConfig(path)).initAdapter).toBe(first)
    const refused = async (...set: string[]) =>
      (await loadConfig(path, set).then(
        () => expect.unreachable('the config was accepted'),
        (error: Error) => error.message,
      )) as string
    expect(await refused('strategy={name: full}')).toContain(
      'first", expected it to be absent with strategy full, which has no adapter; set model to the trained model.',
    )
    expect(await refused('strategy={name: lora-drop}')).toContain('which chooses linears by a probe')
    expect(await refused('output_dir=first')).toContain('expected an adapter outside of output_dir')
    expect(await refused('learning_rate=auto')).toContain('a number, since a search trains new adapters')
  })

  test('that is not YAML, or no mapping, or not there, is refused with its path', async () => {
    expect(await messageOf(' : {')).toMatch(/^not valid YAML: /)
    await expect(loadConfig(scratchFile('list.yaml', '- a'))).rejects.toThrow(
      'list.yaml: expected keys and values',
    )
    await expect(loadConfig('/nowhere/config.yaml')).rejects.toThrow(
      'the config /nowhere/config.yaml does not exist; expected a YAML or JSON file',
    )
  })
})

describe('a config', () => {
  test('whose name is misspelled is answered with the one that is there', async () => {
    const path = scratchFile('run.yaml', '')
    await expect(loadConfig(path.replace('.yaml', '.yml'))).rejects.toThrow(
      `the config ${path.replace('.yaml', '.yml')} does not exist; did you mean ${path}?`,
    )
  })

  test('is not a folder, a model, or data, and the message names what to give', async () => {
    const inRun = scratchFile('config.yaml', '')
    await expect(loadConfig(dirname(inRun))).rejects.toThrow(`is a folder, not a config; name ${inRun}`)
    const empty = dirname(scratchFile('notes.txt', ''))
    await expect(loadConfig(empty)).rejects.toThrow('is a folder, not a config; name a YAML or JSON file')
    const [model, data] = [scratchFile('m.gguf', ''), scratchFile('d.jsonl', '')]
    await expect(loadConfig(model)).rejects.toThrow(
      `${model} is a model, not a config; pass it as --model, or name it in a config, as in "model: ${model}"`,
    )
    await expect(loadConfig(data)).rejects.toThrow(
      `${data} is data, not a config; a config names it, as in "dataset: ${data}"`,
    )
  })

  test('takes a dash in an override for standard input', async () => {
    const path = scratchFile('run.yaml', 'model: m\nstrategy: {name: lora}\ndataset: d\n')
    expect((await loadConfig(path, ['dataset=-'])).dataset.path).toBe('-')
  })
})

describe('the JSON schema', () => {
  test('spells every key as files do, and knows all of them', () => {
    const keys: string[] = []
    const collect = (value: unknown): void => {
      if (typeof value !== 'object' || value === null) return
      const { properties } = value as { properties?: Record<string, unknown> }
      keys.push(...Object.keys(properties ?? {}))
      Object.values(value).forEach(collect)
    }
    collect(configJsonSchema())
    expect(keys.filter((key) => /[A-Z]/.test(key))).toEqual([])
    expect(keys).toEqual(
      expect.arrayContaining(['lora_alpha', 'double_quant', 'adapter', 'num_decay_steps', 'seed']),
    )
  })
})

describe('the data of a config', () => {
  test('has an encoding by any of its names', async () => {
    const read = async (name: string) =>
      (await load('', [`dataset={path: a.csv, encoding: ${name}}`])).dataset.encoding
    expect(await read('latin1')).toBe('windows-1252')
    expect(await read('Shift-JIS')).toBe('shift_jis')
    expect((await load()).dataset.encoding).toBe('auto')
    expect(await messageOf('', ['dataset={path: a.csv, encoding: utf-9}'])).toBe(
      'dataset.encoding is "utf-9", expected auto, or an encoding such as utf-8, utf-16le, windows-1252, or shift_jis.',
    )
  })

  test('is held out where eval_steps asks for evaluations', async () => {
    expect(await messageOf('eval_steps: 10\n')).toBe(
      'eval_steps is 10, expected held-out data beside it: eval_dataset or eval_fraction.',
    )
    expect((await load('eval_steps: 10\neval_fraction: 0.1\n')).evalSteps).toBe(10)
  })
})
