import { describe, expect, test } from 'vitest'
import { FOREIGN_VERBS, foreignKeys } from '../../../lib/core/foreign-keys.js'
import { FOREIGN_VALUES } from '../../../lib/core/foreign-values.js'
import { camelKey, parseOptions } from '../../../lib/core/schema.js'
import { loadModel, lora, vera } from '../../../lib/index.js'
import { adamW } from '../../../lib/options/optimizers.js'
import { trainSchema } from '../../../lib/options/options.js'
import { rulesNamed } from '../../../lib/strategies/index.js'
import { generateSchema } from '../../../lib/train/answers/generate.js'
import { configSchema, loadConfig } from '../../../lib/train/config/config.js'
import { configKey } from '../../../lib/train/config/config-schema.js'
import { published } from '../cli/contract.js'
import { scratchFile } from '../scratch.js'

const entries = [...foreignKeys.values()].flatMap((group) => Object.entries(group))
const minimal = 'model: org/model\nstrategy: {name: lora}\ndataset: train.jsonl\n'

async function answerTo(lines: string, config = minimal): Promise<string> {
  const path = scratchFile('config.yaml', config + lines)
  const error = await loadConfig(path).then(
    () => expect.unreachable(`accepted: ${lines}`),
    (e) => e,
  )
  expect(error).toMatchObject({ code: 'CONFIG' })
  return error.message.replace(`${path}: `, '')
}

function thrown(run: () => unknown): string {
  try {
    run()
  } catch (error) {
    return (error as Error).message
  }
  return expect.unreachable('nothing was thrown')
}

const isKey = (path: string) =>
  path.startsWith('generate.')
    ? camelKey(path.slice('generate.'.length)) in generateSchema.shape
    : configKey(path, 'x')?.path === path

describe('the table of other programs', () => {
  test('has at least 120 keys, none of them one of ours, each once', () => {
    const keys = entries.map(([key]) => key)
    expect(keys.length).toBeGreaterThanOrEqual(120)
    expect(new Set(keys).size).toBe(keys.length)
    expect(keys.filter((key) => camelKey(key) in configSchema.shape)).toEqual([])
  })

  test.each(entries)('%s names keys that exist, or says why there is none', (_, { here, note, values }) => {
    const places = [here ?? []].flat()
    expect(places.length + (note ?? '').length).toBeGreaterThan(0)
    expect(places.filter((place) => !place.includes('*') && !isKey(place))).toEqual([])
    expect(note ?? 'x').not.toMatch(/[.]$/)
    if (values) expect(places).toHaveLength(1)
  })

  test.each(entries)('%s is answered in a config', async (key, { here, note }) => {
    const answer = await answerTo(`${key}: 17\n`)
    const places = [here ?? []].flat()
    expect(answer).toMatch(new RegExp(`^unknown key ${key}; .+[.?]$`))
    expect(answer).not.toContain('known keys')
    const named = places.map((place) =>
      place.startsWith('generate.') ? `--${place.slice(9).replaceAll('_', '-')}` : place,
    )
    if (places.length > 0) expect(named.some((place) => answer.includes(place))).toBe(true)
    else expect(answer).toContain(note)
  })

  test.each(entries)('%s is answered in the options of a program', (key, { here, note }) => {
    const source = { name: 'train()', spelling: 'camel' } as const
    const answer = thrown(() => parseOptions(trainSchema, { [camelKey(key)]: 17 }, source))
    expect(answer).toMatch(new RegExp(`^train\\(\\): unknown key ${camelKey(key)}; .+[.?]$`))
    expect(answer).not.toContain('known keys')
    const last = [here ?? []].flat().map((place) => camelKey(place.split('.').at(-1) as string))
    if (last.length > 0) expect(last.some((name) => answer.includes(name))).toBe(true)
    else expect(answer).toContain(note)
  })

  test('values of known keys are keys and words that exist', async () => {
    for (const [key, words] of Object.entries(FOREIGN_VALUES)) {
      expect(isKey(key)).toBe(true)
      for (const [word, here] of Object.entries(words)) {
        const [first, second] = key.split('.')
        const lines = (value: string) =>
          second ? `${first}: {path: x, ${second}: ${value}}\n` : `${first}: ${value}\n`
        const config = minimal.replace(first === 'dataset' ? 'dataset: train.jsonl\n' : '?', '')
        expect(await answerTo(lines(`"${word}"`), config)).toContain(`(${word} is ${here} here)`)
        await loadConfig(scratchFile('config.yaml', config + lines(here)))
      }
    }
  })
})

describe('habits of other programs', () => {
  test.each([
    ['lr: 1e-4', 'unknown key lr; the name here is learning_rate.'],
    ['load_in_4bit: true', 'unknown key load_in_4bit; write quantization: nf4.'],
    ['load_in_4bit: false', 'unknown key load_in_4bit; that is the default; leave it out.'],
    ['bf16: true', 'unknown key bf16; write precision: bf16.'],
    ['optim: paged_adamw_32bit', 'unknown key optim; write optimizer: paged_adamw.'],
    ['optim: adamw_torch', 'unknown key optim; write optimizer: adamw.'],
    ['finetuning_type: full', /^unknown key finetuning_type; the name here is strategy\.name/],
    ['peft_type: LORA', 'unknown key peft_type; write strategy.name: lora.'],
    ['peft_type: MISS', 'unknown key peft_type; write strategy.name: miss.'],
    ['peft_type: IA3', 'unknown key peft_type; the name here is strategy.name.'],
    ['stage: kto', /^unknown key stage; write task: kto \(pt is training on rows of text; /],
    ['stage: rm', /^unknown key stage; the name here is task \(pt is /],
    ['kto_chosen_weight: 2', 'unknown key kto_chosen_weight; the name here is desirable_weight.'],
    ['lora_target: all', 'unknown key lora_target; write strategy.target_modules: all-linear.'],
    ['max_tokens: 5', 'unknown key max_tokens; the name here is max_seq_length.'],
    [
      'temperature: 1',
      'unknown key temperature; a config has no such key; `lowrank generate` takes --temperature.',
    ],
    ['eval_strategy: steps', /^unknown key eval_strategy; the name here is eval_steps \(/],
    ['lora_rank: 8', 'unknown key lora_rank; the name here is strategy.r.'],
    ['lr_scheduler: cosine', 'unknown key lr_scheduler; the name here is lr_scheduler_type.'],
    ['completely_else: 1', /^unknown key completely_else; known keys: /],
    ['optimizer: {type: adamw, lr: 1}', 'unknown key optimizer.lr; the name here is learning_rate.'],
  ])('%s', async (line, answer) => {
    const told = await answerTo(`${line}\n`)
    if (typeof answer === 'string') expect(told).toBe(answer)
    else expect(told).toMatch(answer)
  })

  test('options of an adapter are found where the strategy has them', async () => {
    const qlora = minimal.replace('{name: lora}', '{name: qlora}')
    expect(await answerTo('lora_r: 8\n', qlora)).toBe(
      'unknown key lora_r; the name here is strategy.adapter.r.',
    )
    const full = minimal.replace('{name: lora}', '{name: full}')
    expect(await answerTo('lora_r: 8\n', full)).toBe(
      'unknown key lora_r; the name here is strategy.r, which full does not have.',
    )
    expect(await answerTo('', minimal.replace('{name: lora}', '{name: lora, rank: 8}'))).toBe(
      'unknown key strategy.rank; the name here is strategy.r.',
    )
  })

  test('a dropout is that of the strategy, whatever it is called there', () => {
    for (const [name, key] of [
      ['lora', 'lora_dropout'],
      ['miss', 'miss_dropout'],
      ['loha', 'rank_dropout'],
    ] as const) {
      const source = { name, spelling: 'snake' } as const
      expect(thrown(() => parseOptions(rulesNamed(name).schema, { name, dropout: 0.1 }, source))).toBe(
        `${name}: unknown key dropout; the name here is ${key}.`,
      )
    }
  })

  test('programs are answered in the spelling of programs', async () => {
    expect(thrown(() => lora({ rank: 8 } as object))).toBe('lora(): unknown key rank; the name here is r.')
    expect(thrown(() => vera({ dropout: 0.1 } as object))).toBe(
      'vera(): unknown key dropout; the name here is veraDropout.',
    )
    expect(thrown(() => adamW({ lr: 1 } as object))).toBe(
      'adamW(): unknown key lr; it is learningRate here, an option of train().',
    )
    await expect(loadModel('m', { loadIn4bit: true } as object)).rejects.toThrow(
      "loadModel(): unknown key loadIn4bit; write quantization: 'nf4'.",
    )
    await expect(loadModel('m', { bnb4bitUseDoubleQuant: false } as object)).rejects.toThrow(
      "loadModel(): unknown key bnb4bitUseDoubleQuant; write quantization: { type: 'nf4', doubleQuant: false }.",
    )
  })

  test('verbs have a verb here, or a sentence', () => {
    for (const { here, note } of Object.values(FOREIGN_VERBS)) expect(here ?? note).toBeTruthy()
    expect(Object.keys(FOREIGN_VERBS).filter((verb) => published.includes(verb))).toEqual([])
  })
})

test('every mistake of a config is reported at once, each on a line and in the details', async () => {
  const path = scratchFile(
    'config.yaml',
    'strategy: {name: lorra}\ndataset: {path: x, streaming: true}\nlr: 1\npacking: 1\nlearning_rate: fast\noptimizer_in_backward: true\n',
  )
  const error = await loadConfig(path).catch((e) => e)
  expect(error.message.split('\n')).toEqual([
    `${path}: 6 mistakes:`,
    expect.stringMatching(/^ {2}strategy\.name is "lorra", expected one of lora, .* Did you mean lora\?$/),
    '  unknown key lr; the name here is learning_rate.',
    '  model is missing, expected a model folder, a .gguf file or a name on the hub.',
    '  learning_rate is "fast", expected a number above 0, or auto.',
    '  packing is 1, expected true or false.',
    expect.stringMatching(/^ {2}max_steps is null, expected a number of steps/),
  ])
  expect(error.details).toMatchObject({
    source: path,
    key: 'strategy.name',
    mistakes: [
      { key: 'strategy.name', value: 'lorra' },
      { key: 'lr', nearest: 'learning_rate', message: 'unknown key lr; the name here is learning_rate.' },
      { key: 'model' },
      { key: 'learning_rate', value: 'fast', expected: 'a number above 0, or auto' },
      { key: 'packing', value: 1 },
      { key: 'max_steps' },
    ],
  })
})

test('what another word stands for is not missing as well', async () => {
  const answer = await answerTo(
    'base_model: org/model\nadapter: lora\nlora_r: 8\ndatasets: [train.jsonl]\n',
    '',
  )
  expect(answer.split('\n')).toEqual([
    '4 mistakes:',
    '  unknown key base_model; the name here is model.',
    '  unknown key adapter; the name here is strategy.name.',
    '  unknown key lora_r; the name here is strategy.r.',
    '  unknown key datasets; did you mean dataset?',
  ])
  expect(await answerTo('lora_r: 8\n', 'model: org/model\n')).toBe(
    '3 mistakes:\n' +
      '  unknown key lora_r; the name here is strategy.r.\n' +
      '  strategy is missing, expected a mapping of keys, as in {name: lora}.\n' +
      '  dataset is missing, expected a path, a list of paths, or {path: …, format: …}.',
  )
})

test('keys of the data are shown their place, also beside a path alone and turned round', async () => {
  expect(await answerTo('columns: {prompt: Q}\n')).toBe(
    'unknown key columns; the name here is dataset.columns (dataset: {path: train.jsonl, columns: …}).',
  )
  const whole = 'model: org/model\nstrategy: {name: lora}\ndataset:\n  path: a.csv\n'
  expect(await answerTo('  prompt: Q\n', whole)).toBe(
    'unknown key dataset.prompt; the name here is dataset.columns.prompt.',
  )
  expect(await answerTo('  columns: {Question: prompt}\n', whole)).toBe(
    'unknown key dataset.columns.Question; the name here comes first: columns: {prompt: Question}.',
  )
})

test('a strategy that is none of ours is answered with what it is', async () => {
  const config = 'model: org/model\ndataset: train.jsonl\n'
  expect(await answerTo('strategy: {name: dpo}\n', config)).toMatch(
    /^strategy\.name is "dpo", expected one of lora, .*, full\. Task: dpo and task: orpo train on pairs of answers/,
  )
  expect(await answerTo('strategy: dpo\n', config)).toBe(
    'strategy is "dpo", expected a mapping of keys, as in {name: lora}.',
  )
})

test('one mistake is one line, with the same details', async () => {
  const path = scratchFile('config.yaml', `${minimal}packing: 1\n`)
  const error = await loadConfig(path).catch((e) => e)
  expect(error.message).toBe(`${path}: packing is 1, expected true or false.`)
  expect(error.details.mistakes).toEqual([
    {
      message: 'packing is 1, expected true or false.',
      source: path,
      key: 'packing',
      value: 1,
      expected: 'true or false',
    },
  ])
})

describe('--set strategy.name', () => {
  const withNotes = async (config: string, overrides: string[]) => {
    const notes: string[] = []
    const path = scratchFile('config.yaml', config)
    const { strategy } = await loadConfig(path, overrides, { onNote: (note) => notes.push(note) })
    return { strategy, notes }
  }
  const config = minimal.replace('{name: lora}', '{name: lora, r: 16, lora_alpha: 32, use_rslora: true}')

  test('leaves behind what the new strategy does not have, and says so', async () => {
    const { strategy, notes } = await withNotes(config, ['strategy.name=vera'])
    expect(strategy).toEqual(vera({ r: 16 }))
    expect(notes).toEqual([
      "--set strategy.name=vera leaves behind lora_alpha, use_rslora of the config's strategy lora, which vera does not have",
    ])
    expect((await withNotes(config, ['strategy.name=lora'])).notes).toEqual([])
    expect((await withNotes(config, ['strategy.name=dora'])).notes).toEqual([])
  })

  test('answers what an override itself names', async () => {
    await expect(withNotes(config, ['strategy.name=vera', 'strategy.lora_alpha=8'])).rejects.toThrow(
      'unknown key strategy.lora_alpha; vera has name, r, d_initial, ',
    )
  })

  test('of a short form keeps what it says', async () => {
    const path = scratchFile('config.yaml', minimal)
    const { dataset } = await loadConfig(path, ['dataset.columns.text=body'])
    expect(dataset).toMatchObject({ path: expect.stringMatching(/train\.jsonl$/), columns: { text: 'body' } })
  })
})
