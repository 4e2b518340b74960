import { execFileSync } from 'node:child_process'
import { cpSync, mkdirSync, readFileSync, truncateSync, writeFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import { expect, test } from 'vitest'
import { shellWord } from '../../../lib/core/system.js'
import { project } from '../../e2e/project.js'
import { chats, tinyModel } from '../../e2e/tiny-model.js'
import { needs } from '../../needs.js'
import { sweepTest } from '../../sweep.js'
import { ggufBytes, value } from '../formats/gguf-bytes.js'
import { llamaGguf } from '../formats/model-fixtures.js'
import { scratchFile, scratchFolder } from '../scratch.js'
import { jsonLines, lowrank, withoutWaits } from './lowrank.js'

const parity = fileURLToPath(new URL('../../parity', import.meta.url))

async function inspected(...args: string[]): Promise<Record<string, unknown>> {
  const { code, stdout, stderr } = await lowrank(['inspect', '--json', ...args])
  expect(withoutWaits(stderr)).toBe('')
  expect(code).toBe(0)
  const lines = jsonLines(stdout) as Record<string, unknown>[]
  expect(lines).toHaveLength(1)
  return lines[0] as Record<string, unknown>
}

test('a model folder shows its shape, tensors, tokenizer and memory by quantization', async () => {
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
  const tables = ['int8', 'nf4'].map((type) => memory[`nf4 with embedding_quantization ${type}`] as number)
  expect(tables[0]).toBeLessThan(memory.nf4 as number)
  expect(tables[1]).toBeLessThan(tables[0] as number)
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

test('a GGUF file is recognized by its first bytes', async () => {
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

test.each(['miss', 'oft'])(
  'modules of %s are counted, and what it has no word for is left out',
  async (name) => {
    const { config, at } = project({ strategy: { name }, max_steps: 1, sample_rows: 0 })
    expect((await lowrank(['train', config])).code).toBe(0)
    const found = await inspected(at('out'))
    expect(found.modules).toBe(found.tensors)
    const { stdout } = await lowrank(['inspect', at('out')])
    expect(stdout).toMatch(/^modules +[1-9]\d*$/m)
    if (name === 'miss') expect(stdout).toMatch(/^rank +64$/m)
    else expect(stdout).toMatch(/^block size +32$/m)
    expect(stdout).not.toMatch(name === 'miss' ? /block size/ : /^rank/m)
  },
)

test('the output folder of a run lists its checkpoints, also before there is an adapter', async () => {
  const adapter = join(parity, 'peft/qv_half')
  const out = join(scratchFolder(), 'out')
  const at = (step: number) => join(out, `checkpoint-${step}`)
  for (const step of [5, 10, 15]) {
    cpSync(adapter, at(step), { recursive: true })
    writeFileSync(join(at(step), 'training_state.json'), '{"step": 1}')
    writeFileSync(join(at(step), 'SHA256SUMS'), '')
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

test('of a private run the checkpoints are found beside its folder, until an open run takes its place', async () => {
  const adapter = join(parity, 'peft/qv_half')
  const out = join(scratchFolder(), 'out')
  const checkpointIn = (folder: string) => {
    const path = join(folder, 'checkpoint-1')
    cpSync(adapter, path, { recursive: true })
    for (const name of ['training_state.json', 'training_state.safetensors', 'SHA256SUMS'])
      writeFileSync(join(path, name), '{}')
    return [{ path, step: 1 }]
  }
  const secret = checkpointIn(`${out}-secret`)
  expect(await inspected(`${out}-secret`)).toEqual({
    kind: 'run',
    path: `${out}-secret`,
    checkpoints: secret,
  })
  mkdirSync(out)
  expect(await inspected(out)).toEqual({ kind: 'run', path: out, checkpoints: secret })
  cpSync(adapter, out, { recursive: true })
  expect(await inspected(out)).toMatchObject({ kind: 'adapter', checkpoints: secret })
  const open = checkpointIn(out)
  writeFileSync(join(out, 'run.json'), '{}')
  expect(await inspected(out)).toMatchObject({ kind: 'adapter', checkpoints: open })
})

test('a dataset shows its form and rows', async () => {
  const path = scratchFile('train.jsonl', chats(5))
  const none = { rows: 0, examples: [] }
  expect(await inspected(path)).toEqual({
    kind: 'dataset',
    remarks: [],
    path,
    format: 'messages',
    rows: 5,
    duplicates: { rows: none, prompts: none },
  })
})

test('data of any kind is recognized: tables, folders, patterns and standard input', async () => {
  const folder = scratchFolder()
  const table = join(folder, 'a.csv')
  writeFileSync(table, 'question,answer\nWhat?,That\n"Who, then?",Me\n')
  const columns = ['--column', 'prompt=question', '--column', 'completion=answer']
  for (const path of [table, folder, join(folder, '*.csv')])
    expect(await inspected(path, ...columns)).toMatchObject({
      kind: 'dataset',
      format: 'prompt_completion',
      rows: 2,
    })
  const piped = await lowrank(['inspect', '-', '--json'], { input: chats(4) })
  expect(jsonLines(piped.stdout)).toMatchObject([{ kind: 'dataset', format: 'messages', rows: 4 }])
  const { code, stderr } = await lowrank(['inspect', table, '--column', 'promt=question'])
  expect([code, stderr]).toEqual([
    2,
    expect.stringContaining('--column promt=question: expected one of messages,'),
  ])
})

test('rows that are there twice are counted and named, and prompts with another answer', async () => {
  const row = (prompt: string, completion: string) => JSON.stringify({ prompt, completion })
  const rows = [row('a', 'b'), row('c', 'd'), row('a', 'b'), row('a', 'x'), row('a', 'b')]
  const path = scratchFile('train.jsonl', rows.join('\n'))
  const first = { path, line: 1 }
  expect((await inspected(path)).duplicates).toEqual({
    rows: {
      rows: 2,
      examples: [
        { path, line: 3, first },
        { path, line: 5, first },
      ],
    },
    prompts: { rows: 1, examples: [{ path, line: 4, first }] },
  })
  const { stdout } = await lowrank(['inspect', path])
  expect(stdout).toMatch(/^duplicates +2 rows, the first one line 3, as line 1$/m)
  expect(stdout).toMatch(/^same prompt, other answer +1 row, the first one line 4, as line 1$/m)
})

test('pairs of answers are not said to lack another answer', async () => {
  const { config, at } = project({ strategy: { name: 'lora' }, task: 'dpo', dataset: 'pairs.jsonl' })
  writeFileSync(at('pairs.jsonl'), JSON.stringify({ prompt: 'a', chosen: 'b', rejected: 'c' }))
  const { stdout } = await lowrank(['inspect', config])
  expect(stdout).toMatch(/^duplicates +none$/m)
  expect(stdout).not.toContain('other answer')
})

test('rows that differ in a number of a call are not the same', async () => {
  const row = (given: string) =>
    `{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": {"2": ${given}}}}]}]}`
  const rows = ['1', '1.0', '12345678901234567890', '12345678901234567891', '1.00'].map(row)
  const path = scratchFile('train.jsonl', rows.join('\n'))
  expect((await inspected(path)).duplicates).toMatchObject({
    rows: { rows: 1, examples: [{ line: 5, first: { line: 2 } }] },
    prompts: { rows: 3 },
  })
})

test('lengths are told with their spread and as bars', async () => {
  const lengths = [...Array.from({ length: 99 }, (_, i) => 10 + (i % 20)), 500]
  const path = scratchFile(
    'train.jsonl',
    lengths.map((n) => JSON.stringify({ text: 'x'.repeat(n - 1) })).join('\n'),
  )
  const found = await inspected(path, '--model', tinyModel())
  const total = lengths.reduce((sum, length) => sum + length, 0)
  expect(found.tokens).toEqual({ total, min: 10, median: 19, mean: total / 100, p95: 28, max: 500 })
  const bars = found.histogram as { from: number; to: number; rows: number }[]
  expect(bars.slice(0, 2)).toEqual([
    { from: 10, to: 11, rows: 10 },
    { from: 12, to: 13, rows: 10 },
  ])
  expect(bars.at(-1)).toEqual({ from: 30, to: 500, rows: 1 })
  expect(bars.reduce((sum, { rows }) => sum + rows, 0)).toBe(100)
  const { stdout } = await lowrank(['inspect', path, '--model', tinyModel()])
  expect(stdout).toMatch(/^tokens of a row +10 to 500; median 19, mean [\d.]+, 95 % have at most 28$/m)
  expect(stdout).toMatch(/^ *30 to 500 +1 +#{4}$/m)
})

sweepTest('chosen rows are shown, and the middle of long ones is left out', async () => {
  const path = scratchFile(
    'train.jsonl',
    `${chats(5)}${chats(1).replace('It is', `It is ${'very '.repeat(1000)}`)}`,
  )
  const model = tinyModel()
  const shown = async (...args: string[]) =>
    (await lowrank(['inspect', path, '--model', model, ...args])).stdout
  expect((await shown('--rows', '3')).match(/^Line \d+; /gm)).toEqual(['Line 1; ', 'Line 2; ', 'Line 3; '])
  const long = await shown('--rows', '6')
  expect(long).toMatch(/\]\]\n… 3,\d+ characters …\n\[\[.*red\.<\|im_end\|>\]\]\n+$/s)
  const whole = await shown('--row', '6')
  expect(whole.match(/^Line \d+; /gm)).toEqual(['Line 6; '])
  expect(whole.match(/very/g)).toHaveLength(1000)
  const { code, stderr } = await lowrank(['inspect', path, '--model', model, '--row', '7'])
  expect([code, stderr]).toEqual([2, expect.stringContaining(`error: --row 7: ${path} has 6 rows.`)])
})

test('with a model a dataset shows its tokens and marks what is trained on', async () => {
  const path = scratchFile('train.jsonl', chats(3))
  const found = await inspected(path, '--model', tinyModel())
  const text = '<|im_start|>user\nColour of sky 0?<|im_end|>\n<|im_start|>assistant\n'
  expect(found.examples).toEqual([
    {
      path,
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

test('rows that max_seq_length cuts are counted, with the tokens that they lose', async () => {
  const [long, cut, away] = [
    { prompt: 'a', completion: 'bcdefghijk' },
    { prompt: 'a', completion: 'bc' },
    { prompt: 'abcdef', completion: 'g' },
  ]
  const path = scratchFile('train.jsonl', [long, cut, away].map((row) => JSON.stringify(row)).join('\n'))
  const limit = ['--model', tinyModel(), '--raw', '--max-seq-length', '6']
  const found = await inspected(path, ...limit, '--empty-rows', 'drop')
  // Each row has one token more than letters, which ends it.
  expect(found).toMatchObject({
    dropped: { nothing_to_learn: 0, truncated_away: 1 },
    truncated: 1,
    truncated_tokens: 12 - 6,
    tokens: { max: 12 },
  })
  const { code, stderr } = await lowrank(['inspect', path, ...limit])
  expect(code).toBe(1)
  expect(stderr).toContain('train.jsonl, line 3: there is nothing to train on: that part begins at token 7')
})

test('what training would refuse is refused in the same words', async () => {
  const rows = [{ prompt: 'a', completion: 'bcdefghijk' }]
  const path = scratchFile('train.jsonl', rows.map((row) => JSON.stringify(row)).join('\n'))
  const limit = ['--model', tinyModel(), '--raw', '--max-seq-length', '6']
  const { code, stderr } = await lowrank(['inspect', path, ...limit])
  expect(code).toBe(1)
  expect(stderr).toMatch(/^error: none of the 1 examples of .* teaches the model to stop: /)
  expect(await inspected(path, ...limit, '--unended', 'allow')).toMatchObject({ rows: 1, truncated: 1 })
  const bos = scratchFile(
    'bos.jsonl',
    JSON.stringify({ prompt: '<|im_start|><|im_start|>a', completion: 'b' }),
  )
  const doubled = await lowrank(['inspect', bos, '--model', tinyModel(), '--raw'])
  expect(doubled.stderr).toContain(
    'line 1: the begin-of-sequence token <|im_start|> occurs twice at the beginning',
  )
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
    refused(scratchFile('notes.log', 'hello')),
    refused(join(folder, 'empty')),
    refused(scratchFile('train.jsonl', '\n')),
  ])
  expect(missing).toContain(
    `error: there is nothing at /nowhere/model (${resolve('/nowhere/model')}); expected a model folder `,
  )
  expect(missing).toContain('\ncode FILE_FORMAT, ')
  expect(cut).toMatch(
    /^error: .*model\.safetensors is not a valid safetensors file: .*download it again\ncode FILE_FORMAT, /,
  )
  expect(unknown).toContain('notes.log cannot be inspected: this file is neither a GGUF file nor a dataset')
  expect(empty).toContain('this folder has neither config.json nor adapter_config.json')
  expect(rows).toMatch(
    /^error: .*train\.jsonl holds no rows; expected one example per line, record or element\ncode DATA, /,
  )
})

test('a part of a model or an adapter is answered with its folder, and not read as data', async () => {
  const model = tinyModel()
  const adapter = join(parity, 'peft/qv_half')
  const [config, tokenizer, peft] = await Promise.all([
    refused(join(model, 'config.json')),
    refused(join(model, 'tokenizer.json')),
    refused(join(adapter, 'adapter_config.json')),
  ])
  expect(config).toContain(`config.json is only a part of a model; name its folder: ${model}\n`)
  expect(tokenizer).toContain(`tokenizer.json is only a part of a model; name its folder: ${model}\n`)
  expect(peft).toContain(`adapter_config.json is only a part of an adapter; name its folder: ${adapter}\n`)
})

test('an adapter of another program is shown, and a file of one', async () => {
  const mlx = await inspected(join(parity, 'mlx/dora'))
  expect(mlx).toMatchObject({
    kind: 'adapter',
    program: 'mlx-lm',
    r: 4,
    lora_alpha: 10,
    base_model: '../models/llama3',
    modules: 4,
    supported: true,
  })
  const weights = join(parity, 'peft/qv_half/adapter_model.safetensors')
  expect(await inspected(weights)).toMatchObject({ kind: 'adapter', program: 'PEFT', r: 3, lora_alpha: 16 })
  const alone = join(scratchFolder(), 'lora.safetensors')
  cpSync(weights, alone)
  expect(await inspected(alone)).toMatchObject({
    kind: 'adapter',
    program: null,
    r: 3,
    lora_alpha: 3,
    remarks: [expect.stringContaining('lora_alpha is taken to be the rank (3)')],
  })
})

test.each([
  ['lfm2', ['shortconv.in_proj', 'ffn_gate', 'attn_output'], ['in_proj', 'out_proj', 'w1']],
  ['qwen35', ['attn_qkv', 'ssm_out', 'ffn_gate'], ['gate_proj', 'in_proj_qkv', 'out_proj']],
  ['llama', ['attn_q', 'ffn_gate'], ['gate_proj', 'q_proj']],
])(
  'a GGUF adapter of the architecture %s names the modules of its models',
  async (name, adapted, modules) => {
    const path = scratchFile(
      'adapter.gguf',
      ggufBytes({
        keys: [
          ['general.architecture', value.string(name)],
          ['general.type', value.string('adapter')],
          ['adapter.type', value.string('lora')],
          ['adapter.lora.alpha', value.number('f32', 4)],
        ],
        tensors: adapted.flatMap((layer) => [
          { name: `blk.0.${layer}.weight.lora_a`, dims: [32, 2] },
          { name: `blk.0.${layer}.weight.lora_b`, dims: [2, 32] },
        ]),
      }),
    )
    expect(await inspected(path)).toMatchObject({
      kind: 'adapter',
      r: 2,
      target_modules: modules,
      modules: modules.length,
    })
  },
)

test('an adapter whose lowrank.json cannot be read is shown, and why it cannot be loaded', async () => {
  const folder = join(scratchFolder(), 'adapter')
  cpSync(join(parity, 'peft/qv_half'), folder, { recursive: true })
  writeFileSync(join(folder, 'lowrank.json'), '{}')
  expect(await inspected(folder)).toMatchObject({
    kind: 'adapter',
    supported: false,
    reason: expect.stringContaining(
      'lowrank.json: version is missing, but this version of lowrank reads version 1',
    ),
  })
})

test('columns of other names are answered with the flag that names them', async () => {
  const path = scratchFile('faq.csv', 'My question,Answer\nWhy?,So.\n')
  const { code, stderr } = await lowrank(['inspect', path])
  expect(code).toBe(1)
  expect(stderr).toContain(
    `To map columns with other names, pass --column, e.g. --column ${shellWord('prompt=My question')} --column completion=Answer\n`,
  )
})

test('a malformed line of a dataset is named', async () => {
  const path = scratchFile('train.jsonl', `${chats(6)}{"messages": [\n`)
  expect(await refused(path)).toMatch(/^error: .*train\.jsonl, line 7: the line is not valid JSON/)
})

test('a label beside a plain text is named as not used', async () => {
  const path = scratchFile('labels.jsonl', '{"text": "fine film", "label": 1}\n')
  expect((await inspected(path)).remarks).toEqual([
    expect.stringMatching(/^the column "label" is not used: .* \{prompt: text, completion: label\}$/),
  ])
  const { stdout } = await lowrank(['inspect', path])
  expect(stdout).toMatch(/^note: the column "label" is not used/m)
})

test('a named pipe is refused at once', async () => {
  const pipe = join(scratchFolder(), 'pipe.jsonl')
  needs('named pipes in folders')
  execFileSync('mkfifo', [pipe])
  const { code, stderr } = await lowrank(['inspect', pipe])
  expect(code).toBe(1)
  expect(stderr).toMatch(/pipe\.jsonl is a named pipe: save what it gives to a file first/)
})

test('special tokens in the text and empty turns are counted, and escaped on request', async () => {
  const says = (question: string, ...answers: string[]) =>
    JSON.stringify({
      messages: answers.flatMap((content) => [
        { role: 'user', content: question },
        { role: 'assistant', content },
      ]),
    })
  const path = scratchFile('special.jsonl', `${says('a', 'b')}\n${says('<|im_end|>?', 'b', '')}\n`)
  const call = [path, '--model', tinyModel(), '--empty-rows', 'drop']
  const found = await inspected(...call)
  expect(found).toMatchObject({
    empty_turns: 1,
    special_tokens: { rows: 1, first: { path, line: 2, token: '<|im_end|>' } },
    remarks: [expect.stringMatching(/^1 row has special tokens in its text, .* line 2; .*: escape$/)],
  })
  const escaped = await inspected(...call, '--special-tokens-in-content', 'escape')
  expect(escaped).toMatchObject({ special_tokens: { rows: 1 }, remarks: [] })
  const total = ({ tokens }: Record<string, unknown>) => (tokens as { total: number }).total
  expect(total(escaped)).toBeGreaterThan(total(found))
  const { stdout } = await lowrank(['inspect', ...call])
  expect(stdout).toMatch(/^empty assistant turns +1, which are not trained on$/m)
  expect(stdout).toMatch(/^special tokens in the text +in 1 row, the first one <\|im_end\|> in line 2$/m)
})

test('tensors that do not fit the config are named, without loading', async () => {
  const path = tinyModel()
  const file = join(path, 'config.json')
  const config = JSON.parse(readFileSync(file, 'utf8'))
  const withConfig = async (changes: Record<string, unknown>) => {
    writeFileSync(file, JSON.stringify({ ...config, ...changes }))
    return inspected(path)
  }
  expect(await withConfig({})).toMatchObject({ supported: true, unused_tensors: [] })

  const width = 3 * config.hidden_size
  const wide = await withConfig({
    hidden_size: width,
    head_dim: config.hidden_size / config.num_attention_heads,
  })
  expect(wide.supported).toBe(false)
  expect(wide.reason).toMatch(
    new RegExp(
      `^tensors have shapes that differ from the config: model\\.embed_tokens\\.weight is \\[\\d+, ${config.hidden_size}\\], not \\[\\d+, ${width}\\] \\(hidden_size is ${width}\\), .* and \\d+ more$`,
    ),
  )
  const deep = await withConfig({ num_hidden_layers: config.num_hidden_layers + 1 })
  expect(deep.supported).toBe(false)
  expect(deep.reason).toMatch(
    new RegExp(
      `^tensors of the config are missing from the files: model\\.layers\\.${config.num_hidden_layers}\\.`,
    ),
  )
  const shallow = await withConfig({ num_hidden_layers: config.num_hidden_layers - 1 })
  expect(shallow.supported).toBe(true)
  expect(shallow.unused_tensors).toContain(
    `model.layers.${config.num_hidden_layers - 1}.mlp.down_proj.weight`,
  )
  const { stdout } = await lowrank(['inspect', path])
  expect(stdout).toMatch(/^tensors not used +model\.layers\..* and \d+ more$/m)
})

test('reasoning that a chat template leaves out of earlier turns is counted and remarked on', async () => {
  const model = tinyModel()
  const latestOnly =
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\\n' }}{% if m.reasoning_content and loop.last %}{{ '<think>' + m.reasoning_content + '</think>' }}{% endif %}{{ m.content + '<|im_end|>\\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
  const config = join(model, 'tokenizer_config.json')
  writeFileSync(
    config,
    JSON.stringify({ ...JSON.parse(readFileSync(config, 'utf8')), chat_template: latestOnly }),
  )
  const turn = (answer: string) => [
    { role: 'user', content: 'a' },
    { role: 'assistant', content: answer, reasoning_content: `thus ${answer}` },
  ]
  const rows = [turn('b'), [...turn('b'), ...turn('c')]].map((messages) => JSON.stringify({ messages }))
  const path = scratchFile('thoughts.jsonl', `${rows.join('\n')}\n`)
  expect(await inspected(path, '--model', model)).toMatchObject({
    lost_reasoning: { rows: 1, first: { path, line: 2 } },
    remarks: [expect.stringMatching(/^1 row has reasoning in earlier assistant turns .* line 2; /)],
  })
  const { stdout } = await lowrank(['inspect', path, '--model', model])
  expect(stdout).toMatch(/^reasoning not rendered +in 1 row, the first one in line 2$/m)
})

test('a config shows its data as its run reads it', async () => {
  const { config, at } = project({
    dataset: { path: 'faq.csv', columns: { prompt: 'question', completion: 'answer' } },
    chat_template: 'own.jinja',
    max_seq_length: 14,
  })
  writeFileSync(at('faq.csv'), 'question,answer\nWhat?,That\nWho?,Me\n')
  writeFileSync(
    at('own.jinja'),
    "{% for m in messages %}{{ m.role[0] + ':' + m.content + eos_token }}{% endfor %}{% if add_generation_prompt %}a:{% endif %}",
  )
  const found = await inspected(config)
  expect(found).toMatchObject({ kind: 'dataset', path: at('faq.csv'), rows: 2, truncated: 1 })
  const parts = (found.examples as { parts: unknown }[]).map((example) => example.parts)
  expect(parts).toEqual([
    [
      { text: 'u:What?<|im_end|>a:', trained: false },
      { text: 'That', trained: true },
    ],
    [
      { text: 'u:Who?<|im_end|>a:', trained: false },
      { text: 'Me<|im_end|>', trained: true },
    ],
  ])
  const [, last] = parts
  const changed = await inspected(config, '--set', 'max_seq_length=64', '--row', '2')
  expect(changed).toMatchObject({ truncated: 0, examples: [{ line: 3, parts: last }] })
})

test('a config shows both answers of a pair, and the class of a text', async () => {
  const { config, at } = project({ strategy: { name: 'lora' }, task: 'dpo', dataset: 'pairs.jsonl' })
  writeFileSync(at('pairs.jsonl'), JSON.stringify({ prompt: 'a', chosen: 'b', rejected: 'c' }))
  const turn = { text: '<|im_start|>user\na<|im_end|>\n<|im_start|>assistant\n', trained: false }
  const answer = (text: string) => ({ text: `${text}<|im_end|>`, trained: true })
  const end = { text: '\n', trained: false }
  const pair = await inspected(config)
  expect(pair.examples).toMatchObject([{ parts: [turn, answer('b'), end, end, turn, answer('c'), end] }])

  writeFileSync(at('texts.jsonl'), '{"text": "One", "label": "good"}\n{"text": "Two", "label": "bad"}\n')
  const classes = ['--set', 'task=classification', '--set', 'dataset=texts.jsonl']
  const { examples } = await inspected(config, ...classes)
  expect(examples).toMatchObject([
    { parts: [{ text: 'One', trained: false }, end, { text: 'good', trained: true }] },
    { parts: [{ text: 'Two', trained: false }, end, { text: 'bad', trained: true }] },
  ])
  const { stdout } = await lowrank(['inspect', config, ...classes])
  expect(stdout).toMatch(/^trained on +2 labels$/m)
})

test('flags of data do not go with a config, nor a key of a config with data', async () => {
  const { config, at } = project()
  for (const [args, message] of [
    [[config, '--train-on', 'all'], '--train-on is not a flag of `inspect CONFIG`'],
    [
      [at('train.jsonl'), '--set', 'seed=1'],
      `--set changes keys of a config; ${at('train.jsonl')} is a dataset.`,
    ],
  ] as const) {
    const { code, stderr } = await lowrank(['inspect', ...args])
    expect([code, stderr]).toEqual([2, expect.stringContaining(message)])
  }
})
