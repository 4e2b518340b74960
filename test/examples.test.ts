/** The examples run as they are, on a model small enough for it; those of configs are valid, and work. */

import { isUtf8 } from 'node:buffer'
import { type ExecFileException, execFile } from 'node:child_process'
import { copyFileSync, existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import ts from 'typescript'
import { expect, test } from 'vitest'
import { parse } from 'yaml'
import { loadConfig } from '../lib/train/config/config.js'
import { spreadsheet } from '../scripts/recipes/spreadsheet.mjs'
import { project } from './e2e/project.js'
import { checkLine } from './lib/cli/contract.js'
import { lowrank, printed } from './lib/cli/lowrank.js'
import { scratchFolder } from './lib/scratch.js'
import { BASE, begun, rowsOf } from './lib/serve/service.js'
import { sweepTest } from './sweep.js'

const examples = fileURLToPath(new URL('../examples/', import.meta.url))
const recipes = join(examples, 'recipes')

function run(name: string, ...args: string[]): Promise<{ code: number; stdout: string; stderr: string }> {
  return new Promise((done) => {
    execFile(
      process.execPath,
      [examples + name, ...args],
      (error: ExecFileException | null, stdout, stderr) =>
        done({ code: error === null ? 0 : Number(error.code), stdout, stderr }),
    )
  })
}

test("openai-client.mjs trains and asks by OpenAI's client", async () => {
  const folder = scratchFolder()
  writeFileSync(join(folder, 'train.jsonl'), rowsOf(100))
  const { service } = await begun(join(folder, 'data'))
  process.env.LOWRANK_TOKEN = service.token
  try {
    const ran = await run('openai-client.mjs', service.url, 'base', join(folder, 'train.jsonl'))
    expect(ran).toMatchObject({ code: 0, stderr: '' })
    expect(ran.stdout).toMatch(
      /^(ftjob-\w+): validating_files\n\1: succeeded\nbase: .*\nft:base:local::\w{8}: Number \d+\.\n$/,
    )
  } finally {
    delete process.env.LOWRANK_TOKEN
    await service.close()
  }
})

test('ai-sdk.mjs and langchain.mjs get a text and an object from a server', async () => {
  const { service } = await begun(join(scratchFolder(), 'data'))
  process.env.LOWRANK_TOKEN = service.token
  try {
    for (const script of ['ai-sdk.mjs', 'langchain.mjs']) {
      const ran = await run(script, service.url, 'base')
      expect(ran).toMatchObject({ code: 0, stderr: '' })
      expect(ran.stdout).toMatch(/^.+\n\{ name: '.*', crew: [1-9] \}\n$/)
    }
  } finally {
    delete process.env.LOWRANK_TOKEN
    await service.close()
  }
})

test('ai-in-process.mjs gets them without one', async () => {
  const ran = await run('ai-in-process.mjs', BASE)
  expect(ran).toMatchObject({ code: 0, stderr: '' })
  expect(ran.stdout).toMatch(/^.+\n\{ name: '.*', crew: [1-9] \}\n$/)
})

test('train.mjs trains an adapter that generate.mjs answers with and export.mjs exports', async () => {
  const { model, at } = project()
  const trained = await run('train.mjs', model, at('train.jsonl'), at('out'))
  expect(trained).toMatchObject({ code: 0, stderr: '' })
  expect(trained.stdout).toMatch(/^peak +[\d.]+ MiB +100 %$/m)
  const losses = [...trained.stdout.matchAll(/^step \d+\/\d+: loss (\d+\.\d+)$/gm)].map(([, loss]) =>
    Number(loss),
  )
  expect(losses.length).toBeGreaterThan(2)
  expect(losses.at(-1)).toBeLessThan(losses[0] as number)
  expect(trained.stdout).toMatch(/^held-out loss after step \d+: \d+\.\d+$/m)
  expect(readdirSync(at('out'))).toContain('adapter_model.safetensors')

  const answered = await run('generate.mjs', model, at('out'), 'Colour of sky 0?')
  expect(answered).toMatchObject({ code: 0, stderr: '' })
  const [, alone, adapted] =
    /^The model alone:\n(.*)\n\nWith the adapter:\n(.*)\n$/s.exec(answered.stdout) ?? []
  expect(alone).toBeTruthy()
  expect(adapted).not.toBe(alone)

  const exported = await run('export.mjs', model, at('out'), at('exported'))
  expect(exported).toMatchObject({ code: 0, stderr: '' })
  expect(exported.stdout.replace(/\d\.\de[+-]\d+/g, '#').split('\n')).toEqual([
    'tuned.gguf (tuned.gguf): KL divergence #',
    'adapter.gguf (adapter.gguf): KL divergence #',
    'ollama (Modelfile, model.gguf): KL divergence #',
    '',
  ])
  expect(readdirSync(at('exported')).sort()).toEqual(['adapter.gguf', 'ollama', 'tuned.gguf'])
})

sweepTest('compare.mjs compares strategies, and goes on where it was', async () => {
  const { config, at } = project({
    max_steps: 2,
    eval_dataset: 'dev.jsonl',
    strategy: { name: 'lora', r: 2 },
  })
  for (const trained of [6, 0]) {
    const { code, stdout, stderr } = await run('compare.mjs', config, at('compared'), 'lora,miss')
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' })
    expect(stdout.match(/^trained \w+\/\d+$/gm) ?? []).toHaveLength(trained)
    expect(stdout).toMatch(/^lora: loss \d\.\d{4} at [\d.e-]+, group \w+$/m)
    expect(stdout).toMatch(/^miss: loss \d\.\d{4} at [\d.e-]+, group \w+, p \d\.\d{3}$/m)
  }
})

test('plan.mjs shows that 4-bit weights and smaller batches take less', async () => {
  const { code, stdout, stderr } = await run('plan.mjs', project().model)
  expect({ code, stderr }).toEqual({ code: 0, stderr: '' })
  const lines = stdout.trimEnd().split('\n')
  expect(lines.map((line) => line.replace(/:.*/, ''))).toEqual([
    'lora, batch 1',
    'lora, batch 4',
    'qlora, batch 1',
    'qlora, batch 4',
  ])
  for (const line of lines) expect(line).toMatch(/: [\d.]+ MiB at the peak, [\d.]+ KiB of it weights$/)
})

test('stream.mjs trains on rows while they are made', async () => {
  const { model, at } = project()
  const { code, stdout, stderr } = await run('stream.mjs', model, at('out'))
  expect({ code, stderr }).toEqual({ code: 0, stderr: '' })
  const made = [...stdout.matchAll(/^step \d+\/10: loss \d+\.\d+, (\d+) rows made$/gm)].map(([, rows]) =>
    Number(rows),
  )
  expect(made).toHaveLength(10)
  // It ends though the rows do not.
  expect(made.at(-1)).toBeGreaterThan(100)
  expect(readdirSync(at('out'))).toEqual(
    expect.arrayContaining(['adapter_model.safetensors', 'checkpoint-5']),
  )
})

sweepTest('private.mjs spends what it may, and leaves an adapter of every rank', async () => {
  const { model, at } = project()
  const { code, stdout, stderr } = await run('private.mjs', model, at('out'))
  expect({ code, stderr }).toEqual({ code: 0, stderr: '' })
  const spent = [...stdout.matchAll(/^round \d\/5: \d+ people, rank [1-4], epsilon (\d+\.\d+)$/gm)].map(
    ([, epsilon]) => Number(epsilon),
  )
  expect(spent).toHaveLength(5)
  expect(spent).toEqual(spent.toSorted((a, b) => a - b))
  expect(spent.at(-1)).toBeLessThanOrEqual(8)
  expect(stdout.match(/^loss at rank [124]: \d+\.\d+$/gm)).toHaveLength(3)
  expect(JSON.parse(readFileSync(at('out', 'rank-2', 'lowrank.json'), 'utf8')).privacy).toHaveLength(1)
})

test.each(readdirSync(examples).filter((name) => name.endsWith('.mjs')))(
  '%s says how it is called',
  async (name) => {
    const { code, stderr } = await run(name)
    expect(code).toBe(2)
    expect(stderr).toMatch(new RegExp(`^usage: node examples/${name} [A-Z]`))
  },
)

test('classifier.ts is strictly typed, and trains on a spreadsheet with labels typed by hand', async () => {
  const { model, at } = project()
  const bytes = spreadsheet(readFileSync(join(recipes, 'messages.csv'), 'utf8'))
  expect(isUtf8(bytes)).toBe(false)
  writeFileSync(at('messages.csv'), bytes)
  // In the package, so that it resolves `lowrank` as a program that has it installed.
  const rootDir = fileURLToPath(new URL('..', import.meta.url))
  const outDir = join(rootDir, 'out', 'compiled')
  const program = ts.createProgram([join(examples, 'classifier.ts')], {
    strict: true,
    noUncheckedIndexedAccess: true,
    exactOptionalPropertyTypes: true,
    module: ts.ModuleKind.NodeNext,
    target: ts.ScriptTarget.ES2022,
    types: ['node'],
    ...{ rootDir, outDir },
  })
  const mistakes = ts.getPreEmitDiagnostics(program)
  expect(mistakes.map(({ messageText }) => ts.flattenDiagnosticMessageText(messageText, '\n'))).toEqual([])
  program.emit()
  const script = join(outDir, 'examples', 'classifier.js')
  const { stdout, stderr } = await promisify(execFile)(process.execPath, [
    ...[script, model, at('messages.csv'), at('out')],
    ...['Please pay my money back.', 'The lamp is broken.'],
  ])
  expect(stderr).toBe('')
  expect(stdout).toMatch(/^\d+ steps; step \d+ is the best, with a held-out F1 of [01]\.\d{3}\n/)
  expect(stdout.match(/^(?:defect|delivery|refund) [01]\.\d\d: .*$/gm)).toHaveLength(2)
  const { id2label } = JSON.parse(readFileSync(at('out', 'lowrank.json'), 'utf8'))
  expect(Object.values(id2label)).toEqual(['defect', 'delivery', 'refund'])
})

test('classification.yaml trains a classifier of its messages', async () => {
  const { model, at } = project()
  for (const name of ['classification.yaml', 'messages.csv']) copyFileSync(join(recipes, name), at(name))
  const set = [`model=${model}`, 'learning_rate=1e-2'].flatMap((pair) => ['--set', pair])
  const trained = await lowrank(['train', at('classification.yaml'), ...set])
  expect(trained.code, trained.stderr).toBe(0)
  expect(trained.stdout).toMatch(/the best: held-out f1 \d[\s\S]*Try it:\n {2}npx lowrank classify /)
  const evaluated = await lowrank(['eval', at('classification.yaml'), '--json', ...set])
  const [found] = printed<'eval'>(evaluated)
  expect(found).toMatchObject({ metric: 'classes', labels: ['defect', 'delivery', 'refund'], rows: 12 })
  expect((found as { accuracy: number }).accuracy).toBeGreaterThan(0.8)
})

const configs = ['', 'recipes/'].flatMap((folder) =>
  readdirSync(join(examples, folder))
    .filter((name) => name.endsWith('.yaml'))
    .map((name) => folder + name),
)

test.each(configs)('%s names the schema that it keeps to', async (name) => {
  const text = readFileSync(join(examples, name), 'utf8')
  const [, schema = ''] = /^# yaml-language-server: \$schema=(\S+)\n/.exec(text) ?? []
  expect(existsSync(join(examples, dirname(name), schema))).toBe(true)
  expect(text.split('\n')[1]).toContain('$schema=./node_modules/lowrank/schemas/config.schema.json')
  checkLine('config', parse(text))
  await expect(loadConfig(join(examples, name))).resolves.toHaveProperty('outputDir')
})

sweepTest(
  'reasoning.yaml and tools.yaml train on all of their rows, with the template of Qwen3',
  async () => {
    const { model, at } = project()
    const { families } = JSON.parse(readFileSync('test/parity/training_templates.json', 'utf8'))
    writeFileSync(join(model, 'chat_template.jinja'), families.qwen3.own)
    for (const [name, rows] of [
      ['reasoning', 60],
      ['tools', 48],
    ] as const) {
      for (const file of [`${name}.yaml`, `${name}.jsonl`]) copyFileSync(join(recipes, file), at(file))
      // Tokens are single bytes.
      const set = [
        ...[`model=${model}`, 'chat_template=true', 'max_seq_length=3072', 'per_device_train_batch_size=1'],
        ...['max_steps=1', 'sample_rows=0'],
      ]
      const sets = set.flatMap((pair) => ['--set', pair])
      const { code, stderr } = await lowrank(['train', at(`${name}.yaml`), ...sets])
      expect(code, stderr).toBe(0)
      expect(stderr).toContain("lowrank's training template of Qwen3")
      expect(stderr).toMatch(new RegExp(`^${rows} rows, `, 'm'))
      expect(stderr).not.toContain('Truncated')
    }
  },
)

sweepTest('qlora.yaml and full.yaml plan, and lora.yaml and small.yaml train', async () => {
  const { model, at } = project()
  const call = (verb: string, name: string, ...set: string[]) => {
    copyFileSync(join(examples, name), at(name))
    const pairs = [`model=${model}`, 'max_seq_length=96', ...set].flatMap((pair) => ['--set', pair])
    return lowrank([verb, at(name), '--json', ...pairs])
  }
  const [quantized, full, trained, small] = await Promise.all([
    call('plan', 'qlora.yaml'),
    call('plan', 'full.yaml'),
    call('train', 'lora.yaml', 'max_steps=2'),
    call('train', 'small.yaml', 'max_steps=2'),
  ])
  const trainable = [quantized, full].map((ended) => printed<'plan'>(ended)[0]?.trainable_parameters)
  expect(trainable[0]).toBeLessThan(trainable[1] as number)
  expect(printed<'train'>(trained).at(-1)).toMatchObject({ event: 'done', output_dir: at('out', 'lora') })
  expect(printed<'train'>(small).at(-1)).toMatchObject({ event: 'done', output_dir: at('out', 'small') })
})
