/** Runs whose chats are rendered by a template other than the model's own. */
import { readFileSync, writeFileSync } from 'node:fs'
import { expect, test } from 'vitest'
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
