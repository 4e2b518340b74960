import { readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import type { Printed } from '../../../lib/cli/schemas.js'
import { project } from '../../e2e/project.js'
import { tinyModel, tinyToolModel } from '../../e2e/tiny-model.js'
import { sweepTest } from '../../sweep.js'
import { scratchFile } from '../scratch.js'
import { lowrank, printed } from './lowrank.js'

async function answers(...args: string[]): Promise<Printed<'generate'>[]> {
  const ended = await lowrank(['generate', '--json', '--max-new-tokens', '8', ...args])
  expect(ended).toMatchObject({ code: 0, stderr: expect.stringMatching(/^Loading /) })
  return printed<'generate'>(ended)
}

const texts = async (...args: string[]) => (await answers(...args)).map(({ text }) => text)

sweepTest('there is a line of JSON per prompt, in their order', async () => {
  const found = await answers('--model', tinyModel(), '--prompt', 'one', 'two', '--prompt', 'three')
  expect(found.map(({ prompt }) => prompt)).toEqual(['one', 'two', 'three'])
})

sweepTest(
  'text streams to stdout as the JSON has it, with the prompts above where there are several',
  async () => {
    const model = tinyModel()
    const flags = ['--model', model, '--max-new-tokens', '8', '--prompt', 'one']
    const [[first, second], single, several] = await Promise.all([
      texts('--model', model, '--prompt', 'one', 'two'),
      lowrank(['generate', ...flags]),
      lowrank(['generate', ...flags, 'two']),
    ])
    expect(single.stdout).toBe(`${first}\n`)
    expect(several.stdout).toBe(`> one\n${first}\n\n> two\n${second}\n`)
  },
)

test('the default is greedy, and a seed fixes what is drawn at a temperature', async () => {
  const model = tinyModel()
  const ask = (...args: string[]) => texts('--model', model, '--prompt', 'hello', ...args)
  const hot = ['--temperature', '2', '--top-k', '200', '--top-p', '0.99']
  const [greedy, again, zero, three, threeAgain, four] = await Promise.all([
    ask(),
    ask('--seed', '9'),
    ask('--temperature', '0'),
    ask(...hot, '--seed', '3'),
    ask(...hot, '--seed', '3'),
    ask(...hot, '--seed', '4'),
  ])
  expect(again).toEqual(greedy)
  expect(zero).toEqual(greedy)
  expect(threeAgain).toEqual(three)
  expect(four).not.toEqual(three)
})

sweepTest('tools come from standard input as from a file', async () => {
  const tools = '[{"function": {"name": "stock"}}]'
  const flags = ['generate', '--model', tinyToolModel(), '--prompt', 'hello', '--max-new-tokens', '8']
  const [file, input] = await Promise.all([
    lowrank([...flags, '--tools', scratchFile('tools.json', tools)]),
    lowrank([...flags, '--tools', '-'], { input: tools }),
  ])
  expect(file.code).toBe(0)
  expect(input).toMatchObject({ code: 0, stdout: file.stdout })
  expect((await lowrank(flags)).stdout).not.toBe(file.stdout)
})

test('a prompt goes through the chat template where there is one, unless it is to stay raw', async () => {
  const model = tinyModel()
  const templated = '<|im_start|>user\nhello<|im_end|>\n<|im_start|>assistant\n'
  const [chat, asChat, raw, byHand] = await Promise.all([
    texts('--model', model, '--prompt', 'hello'),
    texts('--model', model, '--prompt', 'hello', '--chat'),
    texts('--model', model, '--prompt', 'hello', '--raw'),
    texts('--model', model, '--prompt', templated, '--raw'),
  ])
  expect(asChat).toEqual(chat)
  expect(byHand).toEqual(chat)
  expect(raw).not.toEqual(chat)
  writeFileSync(
    join(model, 'tokenizer_config.json'),
    '{"bos_token": "<|im_start|>", "eos_token": "<|im_end|>"}',
  )
  expect(await texts('--model', model, '--prompt', 'hello')).toEqual(raw)
})

async function refused(...args: string[]): Promise<{ code: number | null; error: string | undefined }> {
  const { code, stdout, stderr } = await lowrank(['generate', ...args])
  expect(stdout).toBe('')
  return { code, error: stderr.split('\n').find((line) => line.startsWith('error: ')) }
}

test('calls that lack something or contradict themselves are wrong use', async () => {
  const { config, model, at } = project()
  const found = await Promise.all([
    refused('--model', model),
    refused('--prompt', 'x'),
    refused(config, '--model', model, '--prompt', 'x'),
    refused('--model', model, '--set', 'seed=1', '--prompt', 'x'),
    refused('--model', model, '--prompt', 'x', '--chat', '--raw'),
    refused('--model', model, '--temperature', '-1', '--prompt', 'x'),
    refused(config, '--prompt', 'x'),
  ])
  expect(found.map(({ code }) => code)).toEqual(found.map(() => 2))
  expect(found.map(({ error }) => error)).toEqual([
    'error: pass at least one --prompt.',
    'error: pass either a config file or --model.',
    'error: pass either a config file or --model.',
    'error: --set changes keys of a config file; use flags with --model.',
    'error: --chat and --raw exclude each other.',
    "error: option '--temperature <T>' argument '-1' is invalid. Expected a number from 0 to 100.",
    `error: ${at('out')} holds no trained adapter yet; train first, pass --adapter, or use --no-adapter for the base alone.`,
  ])
})

sweepTest('a run that has not ended is named, with its newest checkpoint', async () => {
  const { config, at } = project({ max_steps: 2, save_steps: 1 })
  expect((await lowrank(['train', config])).code).toBe(0)
  const ask = () => lowrank(['generate', config, '--prompt', 'x', '--max-new-tokens', '1'])
  expect((await ask()).stderr).not.toContain('note:')
  // As a second run leaves them that was stopped.
  const metrics = readFileSync(at('out', 'metrics.jsonl'), 'utf8').trimEnd().split('\n')
  const done = metrics.findIndex((line) => line.startsWith('{"event":"done"'))
  writeFileSync(at('out', 'metrics.jsonl'), `${metrics.slice(0, done).join('\n')}\n`)
  const newest = at('out', 'checkpoint-2')
  expect((await ask()).stderr).toContain(
    `note: the last run into ${at('out')} has not ended, and this adapter was there before; --adapter ${newest} is its newest checkpoint`,
  )
  for (const name of ['adapter_config.json', 'adapter_model.safetensors']) rmSync(at('out', name))
  const { code, stderr } = await ask()
  expect(code).toBe(2)
  expect(stderr).toContain(
    `holds no trained adapter yet; finish its run (lowrank train --resume), name its checkpoint (--adapter ${newest}), or use --no-adapter`,
  )
})

test('a model without a tokenizer and an adapter that is none fail', async () => {
  const model = tinyModel()
  const flags = ['--model', model, '--prompt', 'x']
  // Known before the model is looked for.
  const noAdapter = await refused('--model', '/nowhere', '--prompt', 'x', '--adapter', model)
  rmSync(join(model, 'tokenizer.json'))
  const noTokenizer = await refused(...flags)
  expect(noAdapter).toMatchObject({ code: 1, error: expect.stringContaining('has no adapter_config.json') })
  expect(noTokenizer).toMatchObject({
    code: 1,
    error: expect.stringContaining('tokenizer.json does not exist'),
  })
})
