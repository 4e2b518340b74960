import { cpSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { beforeAll, describe, expect, test } from 'vitest'
import type { Printed } from '../../../lib/cli/schemas.js'
import { packageRoot } from '../../../lib/core/root.js'
import { readSafetensorsHeader } from '../../../lib/formats/safetensors.js'
import { project } from '../../e2e/project.js'
import { chats, tinyModel } from '../../e2e/tiny-model.js'
import { sweepTest } from '../../sweep.js'
import { scratchFile, scratchFolder } from '../scratch.js'
import { lowrank, printed } from './lowrank.js'

type Found<Metric = 'loss'> = Extract<Printed<'eval'>, { metric: Metric }>

async function evaluated(...args: string[]): Promise<Found> {
  const ended = await lowrank(['eval', '--json', ...args])
  expect(ended).toMatchObject({ code: 0, stderr: expect.stringMatching(/^Loading /) })
  const [found, ...more] = printed<'eval'>(ended) as [Found]
  expect(more).toEqual([])
  expect(found.supervised_tokens).toBeGreaterThan(0)
  return found
}

test('loss and perplexity come as one object, and agree', async () => {
  const { model, at } = project()
  const found = await evaluated('--model', model, '--dataset', at('dev.jsonl'))
  expect(found.perplexity).toBeCloseTo(Math.exp(found.loss), 6)
  expect(found.supervised_tokens).toBeLessThan(found.tokens)
})

test('how rows are batched changes nothing, which tokens count does', async () => {
  const { model, at } = project()
  const flags = ['--model', model, '--dataset', at('dev.jsonl'), '--precision', 'fp32']
  const [plain, single, all] = await Promise.all([
    evaluated(...flags),
    evaluated(...flags, '--batch', '1', '--max-seq-length', '96'),
    evaluated(...flags, '--train-on', 'all'),
  ])
  expect(single.loss).toBeCloseTo(plain.loss, 5)
  expect(single).toMatchObject({ tokens: plain.tokens, supervised_tokens: plain.supervised_tokens })
  expect(all.supervised_tokens).toBe(all.tokens - 8)
})

test('people get the numbers in lines', async () => {
  const { model, at } = project()
  const { code, stdout } = await lowrank(['eval', '--model', model, '--dataset', at('dev.jsonl')])
  expect(code).toBe(0)
  expect(stdout).toMatch(/^loss +\d+\.\d{4}\nperplexity +[\d.]+\ntokens +\d+, of them \d+ counted\n$/)
})

test('an adapter is evaluated over the quantization that it was trained over, unless told otherwise', async () => {
  const { config, model, at } = project({ max_steps: 1 })
  expect((await lowrank(['train', config])).code).toBe(0)
  const flags = ['eval', '--model', model, '--adapter', at('out'), '--dataset', at('dev.jsonl'), '--json']
  const [recorded, same, other] = await Promise.all(
    [[], ['--quantization', 'nf4'], ['--quantization', 'none']].map(async (more) => {
      const ended = await lowrank([...flags, ...more])
      expect(ended.code).toBe(0)
      return { ...(printed<'eval'>(ended)[0] as Found), stderr: ended.stderr }
    }),
  )
  expect(recorded?.loss).toBe(same?.loss)
  expect(recorded?.loss).not.toBe(other?.loss)
  expect(recorded?.stderr).toContain("Loading the model in nf4, as in the adapter's training")
})

sweepTest('embedding and head are held as they were trained over, and merged so', async () => {
  const { config, model, at } = project({ max_steps: 1, embedding_quantization: 'int8' })
  expect((await lowrank(['train', config])).code).toBe(0)
  const flags = ['--model', model, '--dataset', at('dev.jsonl'), '--adapter', at('out')]
  const nf4 = ['--quantization', 'nf4']
  const [ended, same, other, run] = await Promise.all([
    lowrank(['eval', ...flags, '--json']),
    evaluated(...flags, ...nf4, '--embedding-quantization', 'int8'),
    evaluated(...flags, ...nf4),
    evaluated(config, '--dataset', at('dev.jsonl')),
  ])
  const [recorded] = printed<'eval'>(ended) as Found[]
  expect(recorded?.loss).toBe(same.loss)
  expect(run.loss).toBe(same.loss)
  expect(other.loss).not.toBe(same.loss)
  expect(ended.stderr).toContain('Loading the model in nf4 with embedding_quantization int8')
  const merged = await lowrank([
    'merge',
    '--adapter',
    at('out'),
    '--dtype',
    'f32',
    '--output',
    at('m'),
    '--json',
  ])
  expect(merged.code, merged.stderr).toBe(0)
  expect(printed<'merge'>(merged)[0]?.check?.max_abs_logit_error).toBeLessThan(1e-4)
})

sweepTest('several adapters add up by their weights', async () => {
  const { config, model, at } = project({ max_steps: 2, strategy: { name: 'lora', r: 4 } })
  expect((await lowrank(['train', config])).code).toBe(0)
  cpSync(at('out'), at('a=b'), { recursive: true })
  const flags = ['--model', model, '--dataset', at('dev.jsonl'), '--precision', 'fp32']
  const [one, halves, off, base] = await Promise.all([
    evaluated(...flags, '--adapter', at('out')),
    evaluated(...flags, '--adapter', `${at('out')}=0.75`, '--adapter', `${at('a=b')}=0.25`),
    evaluated(...flags, '--adapter', `${at('out')}=0`),
    evaluated(...flags, '--no-adapter'),
  ])
  expect(halves.loss).toBeCloseTo(one.loss, 5)
  expect(halves.adapters).toEqual([
    { path: at('out'), weight: 0.75 },
    { path: at('a=b'), weight: 0.25 },
  ])
  expect(off.loss).toBe(base.loss)
  expect(base.loss).not.toBeCloseTo(one.loss, 3)
})

sweepTest('the tokens that count are those that the run of a config trains on', async () => {
  const { at } = project({ max_seq_length: 512 })
  const recipe = join(packageRoot, 'examples', 'recipes', 'reasoning')
  const settings = { chat_template: `${recipe}.jinja`, dataset: `${recipe}.jsonl` }
  const config = JSON.parse(readFileSync(at('run.yaml'), 'utf8'))
  const counted = async (value: boolean, ...flags: string[]) => {
    const path = at(`${value}.yaml`)
    writeFileSync(path, JSON.stringify({ ...config, ...settings, train_on_reasoning: value }))
    const found = await evaluated(path, '--no-adapter', '--dataset', settings.dataset, ...flags)
    return found.supervised_tokens
  }
  const [all, answers, set] = [
    await counted(true),
    await counted(false),
    await counted(true, '--set', 'train_on_reasoning=false'),
  ]
  expect(answers).toBeLessThan(all / 2)
  expect(set).toBe(answers)
})

sweepTest('a classifier is not evaluated without the adapter that has its head', async () => {
  const config = join(packageRoot, 'examples', 'recipes', 'classification.yaml')
  const { code, stderr } = await lowrank(['eval', config, '--no-adapter'])
  expect(code).toBe(2)
  expect(stderr).toContain(
    'error: the task of the config is classification, and the head that classifies is in',
  )
})

sweepTest(
  'adapters with a weight that is no number, beside --no-adapter, or over different bases are refused',
  async () => {
    const { config, model, at } = project({ max_steps: 1 })
    expect((await lowrank(['train', config])).code).toBe(0)
    await lowrank([
      'train',
      config,
      '--set',
      'strategy={name: lora, r: 2}',
      '--set',
      `output_dir=${at('plain')}`,
    ])
    const flags = ['--model', model, '--dataset', at('dev.jsonl'), '--adapter', at('out')]
    const found = await Promise.all([
      refused(...flags, '--no-adapter'),
      refused('--no-adapter', ...flags),
      refused('--model', model, '--dataset', at('dev.jsonl'), '--adapter', 'out=half'),
      refused(...flags, '--adapter', at('plain')),
    ])
    const both = 'error: --adapter and --no-adapter exclude each other.'
    expect(found).toEqual([
      { code: 2, error: both },
      { code: 2, error: both },
      {
        code: 2,
        error: "error: --adapter out=half: the weight is 'half', expected a number, as in --adapter out=0.5.",
      },
      {
        code: 2,
        error: `error: ${at('out')} was trained over quantization nf4 and ${at('plain')} over none; select one with --quantization.`,
      },
    ])
  },
)

/** Trains a project, and returns the loss of its last evaluation. */
async function lastLoss(config: string): Promise<number> {
  const ended = await lowrank(['train', config, '--json'])
  expect(ended.code, ended.stderr).toBe(0)
  return printed<'train'>(ended).findLast((event) => event.event === 'eval')?.loss as number
}

const HELD_OUT = { max_steps: 3, eval_fraction: 0.25, sample_rows: 0, threads: 1 }

sweepTest(
  'without a dataset, the rows that the run held out are evaluated again, with the same loss',
  async () => {
    const { config, at } = project(HELD_OUT)
    const loss = await lastLoss(config)
    const [again, all, other] = await Promise.all([
      evaluated(config),
      evaluated(config, '--dataset', at('train.jsonl')),
      evaluated(config, '--set', 'seed=7'),
    ])
    expect(again).toMatchObject({ loss, dataset: at('train.jsonl'), eval_fraction: 0.25 })
    expect(all.eval_fraction).toBeNull()
    expect(again.tokens).toBeLessThan(all.tokens)
    expect(other.loss).not.toBe(loss)
  },
)

sweepTest('the clients that a private run held out are evaluated again whole', async () => {
  const rows = chats(32).trim().split('\n')
  const owned = rows.map((row, i) => JSON.stringify({ ...JSON.parse(row), user: `u${Math.floor(i / 4)}` }))
  const { config } = project({
    ...HELD_OUT,
    strategy: {
      name: 'dp-dylora',
      adapter: { name: 'dylora', r: 4, lora_alpha: 8, trained_ranks: 'active' },
      clients: { column: 'user' },
      target_epsilon: 8,
      rounds: 2,
      cohort: 3,
    },
    max_steps: undefined,
    dataset: scratchFile('clients.jsonl', `${owned.join('\n')}\n`),
  })
  const loss = await lastLoss(config)
  expect((await evaluated(config)).loss).toBe(loss)
})

test('an eval_dataset is evaluated as the run did', async () => {
  const { config } = project({ ...HELD_OUT, eval_fraction: undefined, eval_dataset: 'dev.jsonl' })
  const loss = await lastLoss(config)
  expect((await evaluated(config)).loss).toBe(loss)
})

test('a dataset beside a config is read as the config reads its own', async () => {
  const { config, model, at } = project({
    dataset: {
      path: 'train.csv',
      header: false,
      columns: { prompt: 1, completion: 2 },
      format: 'prompt_completion',
    },
  })
  const pairs = (count: number) =>
    Array.from({ length: count }, (_, i) => `Colour of thing ${i}?,It is red.\n`).join('')
  writeFileSync(at('train.csv'), pairs(12))
  writeFileSync(at('test.csv'), pairs(3))
  const flags = ['--no-adapter', '--precision', 'fp32']
  const [found, other] = await Promise.all([
    evaluated(config, ...flags, '--dataset', at('test.csv')),
    refused('--model', model, '--dataset', at('test.csv')),
  ])
  expect(found.dataset).toBe(at('test.csv'))
  expect(other.code).toBe(1)
})

sweepTest('exact match and token accuracy agree with what was trained', async () => {
  const { config, at } = project({ max_steps: 60, learning_rate: 2e-2, sample_rows: 0 }, 1)
  expect((await lowrank(['train', config])).code).toBe(0)
  const measure = async <Metric extends string>(metric: Metric, ...more: string[]) => {
    const ended = await lowrank(['eval', config, '--metric', metric, '--json', ...more])
    expect(ended.code, ended.stderr).toBe(0)
    return printed<'eval'>(ended)[0] as Found<Metric>
  }
  const own = ['--dataset', at('train.jsonl')]
  const [exact, accuracy, base, baseAccuracy, loss, f1, baseF1] = await Promise.all([
    measure('exact_match', ...own),
    measure('mean_token_accuracy', ...own),
    measure('exact_match', ...own, '--no-adapter'),
    measure('mean_token_accuracy', ...own, '--no-adapter'),
    measure('loss', ...own),
    measure('f1', ...own),
    measure('f1', ...own, '--no-adapter'),
  ])
  expect(f1).toMatchObject({ f1: 1, rows: 1 })
  expect(baseF1.f1).toBeLessThan(1)
  expect(exact).toMatchObject({ exact_match: 1, matched_rows: 1, rows: 1 })
  expect(accuracy).toMatchObject({ mean_token_accuracy: 1, supervised_tokens: loss.supervised_tokens })
  expect(base).toMatchObject({ exact_match: 0, matched_rows: 0, rows: 1 })
  expect(baseAccuracy.mean_token_accuracy).toBeLessThan(1)
  const [words, tokens] = await Promise.all(
    ['exact_match', 'mean_token_accuracy'].map((metric) =>
      lowrank(['eval', config, '--metric', metric, ...own]),
    ),
  )
  expect(words?.stdout).toBe('exact match  100.0 %\nrows         1, of them 1 word for word\n')
  expect(tokens?.stdout).toBe(
    `mean token accuracy  100.0 %\ntokens               ${loss.supervised_tokens} counted\n`,
  )
})

async function refused(...args: string[]): Promise<{ code: number | null; error: string | undefined }> {
  const { code, stdout, stderr } = await lowrank(['eval', ...args])
  expect(stdout).toBe('')
  return { code, error: stderr.split('\n').find((line) => line.startsWith('error: ')) }
}

test('what is not named or cannot be read is one error', async () => {
  const { config, model, at } = project()
  writeFileSync(at('bad.jsonl'), '{"text": 1}\n')
  const found = await Promise.all([
    refused('--model', model),
    refused(config, '--no-adapter'),
    refused('--model', model, '--dataset', at('nothing.jsonl')),
    refused('--model', model, '--dataset', at('bad.jsonl')),
    refused('--model', model, '--dataset', at('dev.jsonl'), '--quantization', 'nf5'),
  ])
  expect(found).toEqual([
    { code: 2, error: 'error: name --dataset.' },
    {
      code: 2,
      error: 'error: the config has no held-out data (eval_dataset or eval_fraction); pass --dataset.',
    },
    { code: 1, error: `error: ${at('nothing.jsonl')} does not exist` },
    { code: 1, error: expect.stringMatching(/bad\.jsonl, line 1: expected \{"text": …\}, but "text" is 1$/) },
    { code: 2, error: expect.stringContaining('quantization is "nf5", expected none, nf4') },
  ])
})

describe('a model whose weights are not finite', () => {
  let broken: string
  beforeAll(async () => {
    broken = tinyModel()
    const path = join(broken, 'model.safetensors')
    const { tensors } = await readSafetensorsHeader(path)
    const { offset, bytes } = tensors.get('model.norm.weight') as { offset: number; bytes: number }
    // All ones is a NaN in every floating-point type.
    writeFileSync(path, readFileSync(path).fill(0xff, offset, offset + bytes))
  })

  test('fails to be evaluated, and says which', async () => {
    const data = join(scratchFolder(), 'dev.jsonl')
    writeFileSync(data, chats(4))
    const { code, stdout, stderr } = await lowrank(['eval', '--model', broken, '--dataset', data])
    expect([code, stdout]).toEqual([1, ''])
    expect(stderr).toContain(`error: the loss of ${broken} on ${data} is NaN: the weights or an adapter have`)
    expect(stderr).toContain('code DIVERGED')
  })

  test('generates nothing', async () => {
    const { code, stdout, stderr } = await lowrank(['generate', '--model', broken, '--prompt', 'Hello'])
    expect([code, stdout.trim()]).toEqual([1, ''])
    expect(stderr).toMatch(/the logit of token 0 is -?nan, so no token can be drawn/)
  })
})
