/** `reasoning_history: drop` from the config to the adapter. */
import { readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect } from 'vitest'
import { project } from '../../e2e/project.js'
import { sweepTest } from '../../sweep.js'
import { lowrank } from './lowrank.js'

const TEMPLATE = `{%- set ns = namespace(last=0) %}
{%- for m in messages %}{% if m.role == 'user' %}{% set ns.last = loop.index0 %}{% endif %}{% endfor %}
{%- for m in messages %}
  {{- m.role + ': ' }}
  {%- if m.role == 'assistant' and loop.index0 > ns.last %}{{- '<think>' + (m.reasoning_content or '') + '</think>' }}{% endif %}
  {{- m.content + '<|im_end|>' }}
{%- endfor %}
{%- if add_generation_prompt %}{{- 'assistant: ' }}{% endif %}`

const rows = Array.from({ length: 6 }, (_, i) => ({
  messages: [
    { role: 'user', content: `${i}?` },
    { role: 'assistant', content: 'a', reasoning_content: 'r' },
    { role: 'user', content: '?' },
    { role: 'assistant', content: 'b', reasoning_content: 's' },
  ],
}))
const text = rows.map((row) => `${JSON.stringify(row)}\n`).join('')

sweepTest('runs with another reasoning_history have other examples, and are not compared', async () => {
  const home = project({ strategy: { name: 'lora', r: 4 }, max_steps: 1, eval_dataset: 'train.jsonl' })
  writeFileSync(home.at('train.jsonl'), text)
  writeFileSync(home.at('drop.jinja'), TEMPLATE)
  const [keep, drop] = [home.at('keep'), home.at('drop')]
  for (const [output, history] of [
    [keep, 'keep'],
    [drop, 'drop'],
  ]) {
    const values = [`chat_template=${home.at('drop.jinja')}`, `output_dir=${output}`]
    const set = [...values, `reasoning_history=${history}`].flatMap((value) => ['--set', value])
    const { code, stderr } = await lowrank(['train', home.config, ...set])
    expect({ code, stderr }).toMatchObject({ code: 0 })
  }
  for (const flags of [[], ['--dataset', home.at('train.jsonl')]]) {
    const { code, stderr } = await lowrank(['compare', keep, drop, ...flags])
    expect(code).toBe(2)
    expect(stderr).toContain('has reasoning_history: keep and ')
  }
})

sweepTest('eval and inspect take it as a flag, and count answers', async () => {
  const { model, at } = project()
  const settings = join(model, 'tokenizer_config.json')
  writeFileSync(
    settings,
    JSON.stringify({ ...JSON.parse(readFileSync(settings, 'utf8')), chat_template: TEMPLATE }),
  )
  writeFileSync(at('train.jsonl'), text)
  const flags = ['--model', model, '--reasoning-history', 'drop']
  const metrics = await Promise.all(
    ['exact_match', 'f1'].map((metric) =>
      lowrank(['eval', ...flags, '--dataset', at('train.jsonl'), '--metric', metric]),
    ),
  )
  expect(metrics.map(({ stdout }) => stdout)).toEqual([
    expect.stringMatching(/^answers +12, of them \d+ word for word$/m),
    expect.stringMatching(/^answers +12$/m),
  ])
  const shown = await lowrank(['inspect', at('train.jsonl'), ...flags, '--rows', '1'])
  expect(shown.stdout.match(/^Line \d/gm)).toEqual(['Line 1', 'Line 1'])
})

sweepTest(
  'answers of a chat are examples, counted beside the rows, and a resumed run is the same',
  async () => {
    const home = project({
      strategy: { name: 'lora', r: 4 },
      max_steps: 4,
      save_steps: 2,
      reasoning_history: 'drop',
    })
    writeFileSync(home.at('train.jsonl'), text)
    writeFileSync(home.at('drop.jinja'), TEMPLATE)
    const set = ['--set', `chat_template=${home.at('drop.jinja')}`]
    const { stdout } = await lowrank(['inspect', home.config, '--row', '2', ...set])
    expect(stdout).toContain('user: 1?<|im_end|>assistant: [[<think>r</think>a<|im_end|>]]')
    expect(stdout).toContain(
      'user: 1?<|im_end|>assistant: a<|im_end|>user: ?<|im_end|>assistant: [[<think>s</think>b<|im_end|>]]',
    )
    const two = await lowrank(['inspect', home.config, '--rows', '2', ...set])
    expect(two.stdout.match(/^Line \d/gm)).toEqual(['Line 1', 'Line 1', 'Line 2', 'Line 2'])
    const adapter = () => readFileSync(home.at('out/adapter_model.safetensors'))
    const trained = await lowrank(['train', home.config, ...set])
    expect(trained.stderr).toContain(
      'Every answer of a chat is an example, without the reasoning of earlier turns.',
    )
    expect(trained.stderr).toContain('6 rows, 12 answers, ')
    const before = adapter()
    rmSync(home.at('out/checkpoint-4'), { recursive: true })
    const resumed = await lowrank(['train', home.config, '--resume', ...set])
    expect({ code: resumed.code, stderr: resumed.stderr }).toMatchObject({ code: 0 })
    expect(adapter().equals(before)).toBe(true)
  },
)
