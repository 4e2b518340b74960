/** Runs whose chats are rendered by a template other than the model's own. */
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { loadModel } from '../../lib/model/load.js'
import { jsonLines, lowrank, printed } from '../lib/cli/lowrank.js'
import { sweepTest } from '../sweep.js'
import { only, parseEvents } from './events.js'
import { project } from './project.js'

const TEMPLATE =
  "{% for m in messages %}{{ ('Q: ' if m.role == 'user' else 'A: ') + m.content + '<|im_end|>\\n' }}{% endfor %}" +
  "{% if add_generation_prompt %}{{ 'A: ' }}{% endif %}"

sweepTest('a template of a file is used by the run and by whatever uses its adapter', async () => {
  const it = project({ chat_template: 'mine.jinja', eval_dataset: 'dev.jsonl', max_steps: 4 })
  writeFileSync(it.at('mine.jinja'), TEMPLATE)
  const { code, stdout, stderr } = await lowrank(['train', it.config, '--json'])
  expect(code).toBe(0)
  expect(stderr).toContain(`Chat template: ${it.at('mine.jinja')}, in training and afterward.`)
  const { prompt_format: format } = JSON.parse(readFileSync(it.at('out', 'lowrank.json'), 'utf8'))
  expect(format).toMatchObject({ form: 'chat', template: TEMPLATE })

  // The file is no longer needed, and the evaluation sees what that of the run saw.
  writeFileSync(it.at('mine.jinja'), 'no longer read')
  const args = ['--model', it.model, '--quantization', 'nf4', '--adapter', it.at('out')]
  const rows = ['--dataset', it.at('dev.jsonl'), '--max-seq-length', '96', '--batch', '2']
  const found = await lowrank(['eval', ...args, ...rows, '--json'])
  const [evaluated] = printed<'eval'>(found)
  expect(evaluated).toHaveProperty('loss')
  expect((evaluated as { loss: number }).loss).toBeCloseTo(
    only(parseEvents(stdout), 'eval').at(-1)?.loss as number,
    6,
  )
})

test.each([
  ['is missing', undefined, /mine\.jinja does not exist$/],
  ['is not valid', '{% if %}', /mine\.jinja: the chat template is not valid: /],
  ['is empty', ' \n', /mine\.jinja: the chat template is empty$/],
])('a template of a file that %s is refused before the model is loaded', async (_, text, message) => {
  const it = project({ chat_template: 'mine.jinja' })
  if (text !== undefined) writeFileSync(it.at('mine.jinja'), text)
  const { code, stdout } = await lowrank(['train', it.config, '--json'])
  expect(code).toBe(1)
  expect(jsonLines(stdout)).toMatchObject([
    { event: 'error', code: 'FILE_FORMAT', message: expect.stringMatching(message) },
  ])
})

test('a template is named by its file', async () => {
  const it = project({ chat_template: 'chatml' })
  const { code, stdout } = await lowrank(['train', it.config, '--json'])
  expect(code).toBe(2)
  expect(jsonLines(stdout)).toMatchObject([
    {
      message: expect.stringMatching(
        /chat_template is "chatml", expected true, false, or the path of a \.jinja file/,
      ),
    },
  ])
})

/** The template that Qwen3 is published with, on a model that is small enough for a run. */
function qwen3(messages: object[]) {
  const it = project({ dataset: 'train.jsonl', max_seq_length: 256, max_steps: 2 })
  const { families } = JSON.parse(readFileSync('test/parity/training_templates.json', 'utf8'))
  writeFileSync(join(it.model, 'chat_template.jinja'), families.qwen3.own)
  writeFileSync(it.at('train.jsonl'), `${JSON.stringify({ messages })}\n`.repeat(4))
  return it
}

const question = { role: 'user', content: 'Sky?' }

sweepTest(
  'a run without reasoning asks its adapter as it was trained, and says which template it used',
  async () => {
    const it = qwen3([question, { role: 'assistant', content: 'Blue.' }])
    const { stderr } = await lowrank(['train', it.config])
    expect(stderr).toContain("Chats are rendered with lowrank's training template of Qwen3; ")
    const { prompt_format: format } = JSON.parse(readFileSync(it.at('out', 'lowrank.json'), 'utf8'))
    expect(format).toMatchObject({ training_template: 'Qwen3', thinking: false })
    const model = await loadModel(it.model)
    const asked = async () => {
      const parts = (await model.chat()).send('Sky?', { maxNewTokens: 1 })
      let next = await parts.next()
      while (!next.done) next = await parts.next()
      return next.value.promptTokens
    }
    const usual = await asked()
    await model.loadAdapter(it.at('out'))
    expect(await asked()).toBe(usual + '<think>\n\n</think>\n\n'.length)
    await model.dispose()
  },
)

test('the base alone is evaluated with the template that the run asks for', async () => {
  const answer = { role: 'assistant', content: 'Blue.', reasoning_content: 'Look up.' }
  const it = qwen3([question, answer, question, answer])
  const config = JSON.parse(readFileSync(it.config, 'utf8'))
  const tokens = async (training_template: string) => {
    writeFileSync(it.at('eval.yaml'), JSON.stringify({ ...config, training_template }))
    const args = ['eval', it.at('eval.yaml'), '--no-adapter', '--dataset', it.at('train.jsonl'), '--json']
    return (printed<'eval'>(await lowrank(args))[0] as { tokens: number }).tokens
  }
  // The template of the model leaves out the first reasoning.
  expect(await tokens('own')).toBeLessThan(await tokens('auto'))
})

sweepTest('a run with reasoning lets its adapter reason', async () => {
  const it = qwen3([question, { role: 'assistant', content: 'Blue.', reasoning_content: 'Look up.' }])
  const { code } = await lowrank(['train', it.config, '--set', 'training_template=own'])
  expect(code).toBe(0)
  const { prompt_format: format } = JSON.parse(readFileSync(it.at('out', 'lowrank.json'), 'utf8'))
  expect(format).not.toHaveProperty('training_template')
  expect(format).not.toHaveProperty('thinking')
})
