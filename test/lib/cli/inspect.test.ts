import { cpSync, mkdirSync, truncateSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { chats, tinyModel } from '../../e2e/tiny-model.js'
import { ggufBytes } from '../files/gguf-bytes.js'
import { llamaGguf } from '../files/model-fixtures.js'
import { scratchFile, scratchFolder } from '../files/scratch.js'
import { jsonLines, lowrank } from './lowrank.js'

const parity = new URL('../../parity', import.meta.url).pathname

async function inspected(...args: string[]): Promise<Record<string, unknown>> {
  const { code, stdout, stderr } = await lowrank(['inspect', '--json', ...args])
  expect(stderr).toBe('')
  expect(code).toBe(0)
  const lines = jsonLines(stdout) as Record<string, unknown>[]
  expect(lines).toHaveLength(1)
  return lines[0] as Record<string, unknown>
}

test('a model folder shows its shape, tensors, tokenizer and memory by quantisation', async () => {
  const path = tinyModel()
  const found = await inspected(path)
  expect(found).toMatchObject({
    kind: 'model',
    path,
    format: 'folder',
    architecture: 'llama',
    context: 128,
    parameters: 184_800,
    tensors: 20,
    dtypes: { F32: 20 },
    bytes: 4 * 184_800,
    tokenizer: { vocab_size: 246, bos: '<|im_start|>', eos: '<|im_end|>', chat_template: true },
    supported: true,
  })
  const memory = found.memory as Record<string, number>
  expect(memory.nf4).toBeLessThan(0.5 * (memory.none as number))
  const { stdout } = await lowrank(['inspect', path])
  expect(stdout).toMatch(/^parameters +184,800$/m)
  expect(stdout).toMatch(/^chat template +yes$/m)
})

test('a model without a tokenizer or of an unknown architecture is shown with what is wrong', async () => {
  const path = tinyModel()
  writeFileSync(join(path, 'config.json'), JSON.stringify({ model_type: 'gpt_neo', vocab_size: 256 }))
  writeFileSync(join(path, 'tokenizer.json'), '{')
  const found = await inspected(path)
  expect(found).toMatchObject({ supported: false, architecture: 'gpt_neo', memory: {} })
  expect(found.reason).toContain('model_type is "gpt_neo", which is not supported')
  expect((found.tokenizer as { error: string }).error).toContain('tokenizer.json')
})

test('a GGUF file is recognised by its first bytes', async () => {
  const found = await inspected(scratchFile('model', ggufBytes(llamaGguf())))
  expect(found).toMatchObject({ kind: 'model', format: 'gguf', architecture: 'llama', context: 128 })
})

test('an adapter folder shows what it computes and what it stands on', async () => {
  const path = join(parity, 'peft/qv_half')
  const found = await inspected(path)
  expect(found).toMatchObject({ kind: 'adapter', path, peft_type: 'LORA', dtypes: ['F16'], supported: true })
  expect((found.target_modules as string[]).sort()).toEqual(['q_proj', 'v_proj'])
  expect(found.tensors).toBe(2 * (found.modules as number))
})

test('the output folder of a run lists its checkpoints, also before there is an adapter', async () => {
  const adapter = join(parity, 'peft/qv_half')
  const out = join(scratchFolder(), 'out')
  const at = (step: number) => join(out, `checkpoint-${step}`)
  for (const step of [5, 10, 15]) {
    cpSync(adapter, at(step), { recursive: true })
    writeFileSync(join(at(step), 'training_state.json'), '{"step": 1}')
    if (step < 15) writeFileSync(join(at(step), 'training_state.safetensors'), '')
  }
  const checkpoints = [
    { path: at(15), step: 15, missing: 'training_state.safetensors' },
    { path: at(10), step: 10 },
    { path: at(5), step: 5 },
  ]
  expect(await inspected(out)).toEqual({ kind: 'run', path: out, checkpoints })
  cpSync(adapter, out, { recursive: true })
  expect(await inspected(out)).toMatchObject({ kind: 'adapter', path: out, checkpoints })
  const { stdout } = await lowrank(['inspect', out])
  const listed = [...stdout.matchAll(/^checkpoint +(.*)$/gm)].map(([, shown]) => shown)
  expect(listed).toEqual([`${at(15)} (incomplete: no training_state.safetensors)`, at(10), at(5)])
  expect(await inspected(at(5))).not.toHaveProperty('checkpoints')
})

test('a dataset shows its form and rows', async () => {
  const path = scratchFile('train.jsonl', chats(5))
  expect(await inspected(path)).toEqual({ kind: 'dataset', path, format: 'messages', rows: 5 })
})

test('with a model a dataset shows its tokens and marks what is learnt', async () => {
  const path = scratchFile('train.jsonl', chats(3))
  const found = await inspected(path, '--model', tinyModel())
  const text = '<|im_start|>user\nColour of sky 0?<|im_end|>\n<|im_start|>assistant\n'
  expect(found.examples).toEqual([
    {
      line: 1,
      parts: [
        { text, trained: false },
        { text: 'It is red.<|im_end|>', trained: true },
        { text: '\n', trained: false },
      ],
    },
    expect.objectContaining({ line: 2 }),
  ])
  expect(found.supervised_tokens).toBe(['It is red.', 'It is green.', 'It is blue.'].join('').length + 3)
  expect(found).toMatchObject({ dropped: { nothing_to_learn: 0, truncated_away: 0 }, truncated: 0 })
})

test('rows that max_seq_length cuts are counted', async () => {
  const path = scratchFile('train.jsonl', chats(3))
  const found = await inspected(path, '--model', tinyModel(), '--max-seq-length', '20')
  expect(found.dropped).toEqual({ nothing_to_learn: 0, truncated_away: 3 })
})

test('control characters of a dataset do not reach the terminal', async () => {
  const row = { prompt: 'a', completion: '\u001b[31mred' }
  const path = scratchFile('train.jsonl', JSON.stringify(row))
  const { stdout } = await lowrank(['inspect', path, '--model', tinyModel()])
  expect(stdout).toContain('[[\\u{1b}[31mred')
  expect(stdout).not.toContain('\u001b')
})

async function refused(path: string): Promise<string> {
  const { code, stdout, stderr } = await lowrank(['inspect', path])
  expect({ code, stdout }).toEqual({ code: 1, stdout: '' })
  return stderr
}

test('what is missing, cut short or of no known kind is one error', async () => {
  const model = tinyModel()
  truncateSync(join(model, 'model.safetensors'), 5000)
  const folder = scratchFolder()
  mkdirSync(join(folder, 'empty'))
  const [missing, cut, unknown, empty, rows] = await Promise.all([
    refused('/nowhere/model'),
    refused(model),
    refused(scratchFile('notes.txt', 'hello')),
    refused(join(folder, 'empty')),
    refused(scratchFile('train.jsonl', '\n')),
  ])
  expect(missing).toBe('error: /nowhere/model does not exist\n')
  expect(cut).toMatch(/^error: .*model\.safetensors is not a valid safetensors file: .*download it again\n$/)
  expect(unknown).toContain(
    'notes.txt is nothing that can be inspected: this file is neither GGUF nor .jsonl',
  )
  expect(empty).toContain('this folder has neither config.json nor adapter_config.json')
  expect(rows).toMatch(/^error: .*train\.jsonl is empty: expected one JSON object per line\n$/)
})

test('a malformed line of a dataset is named', async () => {
  const path = scratchFile('train.jsonl', `${chats(6)}{"messages": [\n`)
  expect(await refused(path)).toMatch(/^error: .*train\.jsonl, line 7: the line is not valid JSON/)
})
