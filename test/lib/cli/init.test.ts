import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { parse } from 'yaml'
import type { Printed } from '../../../lib/cli/schemas.js'
import { spreadsheet } from '../../../scripts/recipes/spreadsheet.mjs'
import { project } from '../../e2e/project.js'
import { lowrank, printed } from './lowrank.js'

const lines = (count: number, row: (i: number) => object): string =>
  Array.from({ length: count }, (_, i) => JSON.stringify(row(i))).join('\n')

const DATA: [name: string, file: string, content: string, found: Partial<Printed<'init'>>][] = [
  [
    'chats',
    'chats.jsonl',
    lines(30, (i) => ({
      messages: [
        { role: 'user', content: `What is ${i}?` },
        { role: 'assistant', content: `It is ${i}.` },
      ],
    })),
    { format: 'messages', task: 'causal_lm', file_type: 'jsonl', rows: 30, held_out: 6, columns: {} },
  ],
  [
    'prompts and answers of other names',
    'pairs.csv',
    `Frage,question,answer\n${Array.from({ length: 24 }, (_, i) => `${i},What is ${i}?,"It is, well, ${i}."`).join('\n')}`,
    { format: 'prompt_completion', task: 'causal_lm', columns: { prompt: 'question', completion: 'answer' } },
  ],
  [
    'texts',
    'texts.jsonl',
    lines(20, (i) => ({ id: i, body: `The pier of ${i} lies in the west, and its ferry leaves at ${i}.` })),
    { format: 'text', task: 'causal_lm', columns: { text: 'body' } },
  ],
  [
    'classes in a table',
    'topics.csv',
    `when;message;topic\n${Array.from({ length: 30 }, (_, i) => `2026-01-${i};The kettle number ${i} leaks;${['refund', 'defect', 'delivery'][i % 3]}`).join('\n')}`,
    {
      format: 'classification',
      task: 'classification',
      columns: { text: 'message', label: 'topic' },
      classes: [
        { label: 'defect', rows: 10 },
        { label: 'delivery', rows: 10 },
        { label: 'refund', rows: 10 },
      ],
    },
  ],
  [
    'pairs of answers',
    'pairs.jsonl',
    lines(20, (i) => ({ prompt: `What is ${i}?`, chosen: `It is ${i}.`, rejected: 'Who knows.' })),
    { format: 'preference', task: 'dpo' },
  ],
  [
    'good answers and bad ones',
    'judged.jsonl',
    lines(20, (i) => ({ prompt: `What is ${i}?`, completion: `It is ${i}.`, label: i % 2 === 0 })),
    { format: 'unpaired_preference', task: 'kto' },
  ],
]

describe('a config for', () => {
  test.each(DATA)('%s trains as it is', async (_, file, content, expected) => {
    const { folder, at } = project()
    writeFileSync(at(file), content)
    const made = await lowrank(['init', file, '--json'], { cwd: folder })
    expect(made.code, made.stderr).toBe(0)
    const [found] = printed<'init'>(made)
    expect(found).toMatchObject({ config: 'config.yaml', model: 'smollm2', ...expected })
    expect(found?.longest_row).toBeGreaterThan(5)
    const config = readFileSync(at('config.yaml'), 'utf8')
    // Every choice has a comment.
    expect(config.match(/^[a-z]\w*: .*$/gm)?.filter((line) => !line.includes(' # '))).toEqual([])
    expect(parse(config)).toMatchObject({ model: 'smollm2', eval_fraction: expect.any(Number) })
    const trained = await lowrank(['train', 'config.yaml'], { cwd: folder })
    expect(trained.code, trained.stderr).toBe(0)
    expect(existsSync(at('out', 'adapter_model.safetensors'))).toBe(true)
    expect(trained.stderr).not.toMatch(/warning|Truncated/i)
    // The third of the next commands uses what was trained.
    if (expected.task === 'classification') {
      const [, text = ''] = /--text '(.*)'$/.exec(found?.next[2] ?? '') ?? []
      const classified = await lowrank(['classify', 'config.yaml', '--text', text], { cwd: folder })
      expect(classified.code, classified.stderr).toBe(0)
    }
  })
})

test('a spreadsheet in Windows-1252 with labels typed by hand trains as it is', async () => {
  const { folder, at } = project()
  const messages = readFileSync('examples/recipes/messages.csv', 'utf8')
  writeFileSync(at('messages.csv'), spreadsheet(messages))
  const made = await lowrank(['init', 'messages.csv', '--json'], { cwd: folder })
  expect(made.code, made.stderr).toBe(0)
  expect(printed<'init'>(made)[0]).toMatchObject({
    encoding: 'windows-1252',
    strip_labels: true,
    columns: { text: 'message', label: 'topic' },
    classes: [
      { label: 'delivery', rows: 25 },
      { label: 'refund', rows: 20 },
      { label: 'defect', rows: 15 },
    ],
  })
  expect(parse(readFileSync(at('config.yaml'), 'utf8')).dataset).toMatchObject({
    encoding: 'windows-1252',
    strip_labels: true,
  })
  const trained = await lowrank(['train', 'config.yaml'], { cwd: folder })
  expect(trained.code, trained.stderr).toBe(0)
  const [found] = printed<'classify'>(
    await lowrank(['classify', 'config.yaml', 'messages.csv', '--json'], { cwd: folder }),
  )
  expect(Object.keys(found?.probabilities ?? {})).toEqual(['defect', 'delivery', 'refund'])
  expect(found?.row).toMatchObject({ customer: 'Günther Groß', price: '12 €' })
})

test('it says what it saw, and the next commands', async () => {
  const { folder, at } = project()
  writeFileSync(
    at('texts.jsonl'),
    lines(20, (i) => ({ text: `A text ${i}`, label: i % 4 === 0 ? 'rare' : 'usual' })),
  )
  const { code, stdout, stderr } = await lowrank(['init', 'texts.jsonl', '--output', 'mine.yaml'], {
    cwd: folder,
  })
  expect(code, stderr).toBe(0)
  expect(stdout).toContain('classes      usual (15), rare (5)\n')
  expect(stdout).toContain('written      mine.yaml\n')
  expect(stdout).toMatch(
    /\nNext:\n {2}npx lowrank inspect mine.yaml --rows 1 .*\n.* train mine.yaml .*\n.* classify mine.yaml --text 'A text \d'/,
  )
})

test('an existing file stays as it is without --force', async () => {
  const { folder, at } = project()
  writeFileSync(at('config.yaml'), 'mine: true\n')
  const refused = await lowrank(['init', 'train.jsonl'], { cwd: folder })
  expect(refused.stderr).toContain('config.yaml exists; name another file with --output')
  expect(refused.code).toBe(2)
  expect(readFileSync(at('config.yaml'), 'utf8')).toBe('mine: true\n')
  const replaced = await lowrank(['init', 'train.jsonl', '--force'], { cwd: folder })
  expect(replaced.code, replaced.stderr).toBe(0)
  expect(readFileSync(at('config.yaml'), 'utf8')).toContain('model: smollm2 # the model in this folder')
})

test('a place where nothing can be written is refused before the data is read', async () => {
  const { folder, at } = project()
  mkdirSync(at('taken.yaml'))
  writeFileSync(at('empty.jsonl'), '')
  for (const [place, error] of [
    ['taken.yaml', '--output taken.yaml is a folder; expected the name of a file.'],
    [join('train.jsonl', 'a.yaml'), 'cannot write the folder'],
  ] as const) {
    const { code, stderr } = await lowrank(['init', 'empty.jsonl', '--force', '--output', place], {
      cwd: folder,
    })
    expect(stderr).toContain(error)
    expect(code).toBeGreaterThan(0)
  }
  const made = await lowrank(['init', 'train.jsonl', '--output', join('new', 'a.yaml')], { cwd: folder })
  expect(made.code, made.stderr).toBe(0)
  expect(readFileSync(at('new', 'a.yaml'), 'utf8')).toContain('../train.jsonl')
})

test('what cannot be trained on writes nothing, and is one error', async () => {
  const { folder, at } = project()
  const cases: [file: string, content: string, error: string][] = [
    ['empty.jsonl', '', 'empty.jsonl holds no rows'],
    ['numbers.csv', 'a,b\n1,2\n3,4\n', 'which of the columns "a", "b" to train on cannot be seen'],
    [
      'broken.jsonl',
      `${lines(3, () => ({ prompt: 'a', completion: 'b' }))}\n{"prompt": "c"}`,
      'broken.jsonl, line 4: expected {"prompt": …, "completion": …}',
    ],
  ]
  for (const [file, content, error] of cases) {
    writeFileSync(at(file), content)
    const { code, stderr } = await lowrank(['init', file], { cwd: folder })
    expect(stderr).toContain(error)
    expect(code).toBeGreaterThan(0)
  }
  expect((await lowrank(['init', '-'], { cwd: folder })).stderr).toContain('standard input has no name')
  expect(existsSync(at('config.yaml'))).toBe(false)
})

test('columns and the task may be named', async () => {
  const { folder, at } = project()
  writeFileSync(
    at('two.csv'),
    `a,b\n${Array.from({ length: 12 }, (_, i) => `some ${i},words ${i}`).join('\n')}`,
  )
  const call = ['init', 'two.csv', '--json', '--column', 'prompt=a', '--column', 'completion=b']
  const [found] = printed<'init'>(await lowrank(call, { cwd: folder }))
  expect(found).toMatchObject({ format: 'prompt_completion', columns: { prompt: 'a', completion: 'b' } })
  writeFileSync(
    at('dpo.jsonl'),
    lines(8, (i) => ({ prompt: `${i}?`, chosen: `${i}`, rejected: 'no' })),
  )
  const other = ['init', 'dpo.jsonl', '--json', '--task', 'orpo', '--force']
  expect(printed<'init'>(await lowrank(other, { cwd: folder }))[0]).toMatchObject({ task: 'orpo' })
})

test('columns whose names YAML would read otherwise keep them', async () => {
  const { folder, at } = project()
  const rows = Array.from({ length: 20 }, (_, i) => `the text of row ${i},${['a', 'b'][i % 2]}`)
  writeFileSync(at('odd.csv'), ['"message, typed\nby hand","{topic}"', ...rows].join('\n'))
  const { code, stderr } = await lowrank(['init', 'odd.csv'], { cwd: folder })
  expect(code, stderr).toBe(0)
  expect(parse(readFileSync(at('config.yaml'), 'utf8')).dataset).toMatchObject({
    columns: { text: 'message, typed\nby hand', label: '{topic}' },
  })
})

test('a text column that is named goes before columns of other formats', async () => {
  const { folder, at } = project()
  writeFileSync(
    at('pairs.jsonl'),
    lines(20, (i) => ({ prompt: `What is ${i}, and why?`, completion: ['a', 'b'][i % 2] })),
  )
  const named = (...columns: string[]) => columns.flatMap((column) => ['--column', column])
  const call = ['init', 'pairs.jsonl', '--json', '--force']
  const classes = await lowrank([...call, ...named('text=prompt', 'label=completion')], { cwd: folder })
  expect(classes.code, classes.stderr).toBe(0)
  expect(printed<'init'>(classes)[0]).toMatchObject({
    task: 'classification',
    columns: { text: 'prompt', label: 'completion' },
  })
  writeFileSync(
    at('pairs.jsonl'),
    lines(20, (i) => ({ prompt: `What is ${i}?`, completion: `It is ${i}, since ${i} is ${i}.` })),
  )
  const texts = await lowrank([...call, ...named('text=completion')], { cwd: folder })
  expect(printed<'init'>(texts)[0]).toMatchObject({ format: 'text', columns: { text: 'completion' } })
})

test('a config in another folder finds its model and data', async () => {
  const { folder, at } = project()
  mkdirSync(at('configs'))
  const made = await lowrank(['init', 'train.jsonl', '--output', 'configs/mine.yaml'], { cwd: folder })
  expect(made.code, made.stderr).toBe(0)
  expect(parse(readFileSync(at('configs', 'mine.yaml'), 'utf8'))).toMatchObject({ model: '../smollm2' })
  const planned = await lowrank(['plan', 'configs/mine.yaml'], { cwd: folder })
  expect(planned.code, planned.stderr).toBe(0)
})

test('the comment on beta says what it is in the task', async () => {
  const { folder, at } = project()
  writeFileSync(
    at('dpo.jsonl'),
    lines(8, (i) => ({ prompt: `${i}?`, chosen: `${i}`, rejected: 'no' })),
  )
  const beta = async (task: string) => {
    await lowrank(['init', 'dpo.jsonl', '--task', task, '--force'], { cwd: folder })
    return readFileSync(at('config.yaml'), 'utf8').match(/^beta: .*$/m)?.[0]
  }
  expect(await beta('dpo')).toBe('beta: 0.1 # higher keeps the model closer to what it was')
  expect(await beta('orpo')).toBe(
    'beta: 0.1 # weight of the preference beside the likelihood of the chosen answers',
  )
})
