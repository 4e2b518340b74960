import { spawn } from 'node:child_process'
import { writeFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { beforeAll, expect, test } from 'vitest'
import type { Printed } from '../../../lib/cli/schemas.js'
import { type Project, project } from '../../e2e/project.js'
import { sweepTest } from '../../sweep.js'
import { lowrank, printed } from './lowrank.js'

const main = fileURLToPath(new URL('../../../dist/esm/cli/main.js', import.meta.url))
const messages: [text: string, topic: string][] = Array.from({ length: 40 }, (_, i) =>
  i % 2 === 0 ? [`sun and light ${i}`, 'day'] : [`moon, stars ${i}`, 'night'],
)

let trained: Project
let loneModel: string[]
beforeAll(async () => {
  trained = project({
    task: 'classification',
    strategy: { name: 'lora', r: 4, lora_alpha: 8 },
    dataset: { path: 'topics.csv', columns: { text: 'message', label: 'topic' } },
    learning_rate: 2e-2,
    max_steps: 20,
    per_device_train_batch_size: 8,
    max_seq_length: 24,
  })
  const rows = messages.map(([text, topic]) => `"${text}";${topic}`)
  writeFileSync(trained.at('topics.csv'), ['message;topic', ...rows].join('\n'))
  const { code, stderr } = await lowrank(['train', trained.config])
  expect(code, stderr).toBe(0)
  loneModel = ['--model', trained.model, '--adapter', trained.at('out')]
})

const classify = (...args: string[]) => lowrank(['classify', trained.config, ...args])

test('texts of the command line have all probabilities, the likeliest first', async () => {
  const { code, stdout, stderr } = await classify('--text', 'sun and light', '--text', 'moon, stars')
  expect(code, stderr).toBe(0)
  expect(stdout.replace(/ +\d+\.\d/g, ' #')).toBe(
    '> sun and light\nday #%\nnight #%\n\n> moon, stars\nnight #%\nday #%\n'.replaceAll('#', '# '),
  )
  const ended = await lowrank(['classify', ...loneModel, '--text', 'moon, stars', '--json'])
  const [found] = printed<'classify'>(ended)
  expect(found).toMatchObject({ text: 'moon, stars', label: 'night', truncated: false })
  const { probabilities } = found as Printed<'classify'>
  expect(Object.keys(probabilities)).toEqual(['day', 'night'])
  expect((probabilities.day as number) + (probabilities.night as number)).toBeCloseTo(1, 6)
})

test('a table comes out as a table, with the class and the probabilities', async () => {
  writeFileSync(trained.at('new.csv'), 'id;message;note\n1;"sun; and ""light""";\n2;moon, stars;a b\n')
  const { code, stdout, stderr } = await classify(trained.at('new.csv'))
  expect(code, stderr).toBe(0)
  expect(stdout.replace(/[01]\.\d{4}/g, '#').split('\n')).toEqual([
    'id;message;note;predicted_label;probability_day;probability_night',
    '1;"sun; and ""light""";;day;#;#',
    '2;moon, stars;a b;night;#;#',
    '',
  ])
  const [first] = printed<'classify'>(await classify(trained.at('new.csv'), '--json'))
  expect(first).toMatchObject({ line: 2, row: { id: '1', message: 'sun; and "light"', note: '' } })
})

test('columns whose names are numbers stay where they are', async () => {
  writeFileSync(trained.at('years.csv'), 'message,2024,10\nmoon,a,b\n')
  const { code, stdout, stderr } = await classify(trained.at('years.csv'))
  expect(code, stderr).toBe(0)
  expect(stdout).toMatch(/^message,2024,10,predicted_label,.*\nmoon,a,b,(day|night),/)
})

test('JSON Lines come out as JSON Lines with their keys', async () => {
  writeFileSync(trained.at('new.jsonl'), '{"id":7,"about":{"text":"moon, stars"}}\n')
  const found = await classify(trained.at('new.jsonl'), '--text-column', 'about.text')
  expect(found.code, found.stderr).toBe(0)
  expect(JSON.parse(found.stdout)).toEqual({
    id: 7,
    about: { text: 'moon, stars' },
    predicted_label: 'night',
    probabilities: { day: expect.any(Number), night: expect.any(Number) },
  })
})

test('standard input is answered as it arrives', async () => {
  const child = spawn(process.execPath, [main, 'classify', trained.config, '-'], { stdio: 'pipe' })
  let [stdout, stderr] = ['', '']
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    stderr += text
  })
  child.stdin.write('sun and light\n')
  for await (const text of child.stdout.setEncoding('utf8')) {
    // The second line is written when the first has been answered.
    if (stdout === '') child.stdin.end('moon, stars, and the light of a very long night\n')
    stdout += text
  }
  expect(stdout, stderr).toMatch(
    /^day\t[01]\.\d{4}\tsun and light\nnight\t[01]\.\d{4}\tmoon, stars, and the light of a very long night\n$/,
  )
  expect(stderr).toContain('note: 1 text of 2 had more tokens than max_seq_length')
})

test('JSON on standard input may begin with a byte order mark', async () => {
  const { code, stdout, stderr } = await lowrank(['classify', trained.config, '-'], {
    input: '\ufeff{"message":"moon, stars","id":1}\n',
  })
  expect(code, stderr).toBe(0)
  expect(JSON.parse(stdout)).toMatchObject({ id: 1, predicted_label: 'night' })
})

test('data in another encoding than that of the config is named, not garbled', async () => {
  const set = ['--set', 'dataset.encoding=windows-1252']
  writeFileSync(trained.at('utf8.csv'), 'id,message\n1,Grüße für sie\n')
  const refused = await classify(...set, trained.at('utf8.csv'))
  expect(refused.stderr).toContain('line 2: the line is UTF-8 text, not windows-1252; pass --encoding utf-8')
  const read = await classify(...set, '--encoding', 'utf-8', trained.at('utf8.csv'))
  expect(read.stdout, read.stderr).toContain('1,Grüße für sie,')
  writeFileSync(trained.at('latin.csv'), Buffer.from('id,message\n1,Gr\xfc\xdfe\n', 'latin1'))
  const proposed = await classify(trained.at('latin.csv'))
  expect(proposed.stderr).toContain('pass --encoding windows-1252')
  const unknown = await classify('--encoding', 'klingon', trained.at('latin.csv'))
  expect(unknown.stderr).toContain('Expected auto, or an encoding such as utf-8')
})

test('a signal ends it while it waits for standard input', async () => {
  const child = spawn(process.execPath, [main, 'classify', trained.config, '-'], { stdio: 'pipe' })
  let stderr = ''
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    stderr += text
  })
  child.stdin.write('sun and light\n')
  const ended = new Promise((resolve) => child.on('exit', (code, signal) => resolve([code, signal])))
  child.stdout.once('data', () => child.kill('SIGTERM'))
  expect(await ended, stderr).toEqual([130, null])
  expect(stderr).toContain('stopped on request.')
})

test('rows before one without a text are answered, and the error names its line', async () => {
  writeFileSync(trained.at('gap.csv'), 'id,message\n1,sun and light\n2, \n')
  const { code, stdout, stderr } = await classify(trained.at('gap.csv'))
  expect(code).toBe(1)
  expect(stdout.split('\n')).toHaveLength(3)
  expect(stderr).toContain('gap.csv, line 3: the text is empty; remove the row')
})

test('wrong use is one error that says what to do', async () => {
  writeFileSync(trained.at('other.csv'), 'id,body\n1,sun\n')
  const cases: [args: string[], error: string][] = [
    [[trained.config], 'pass either --text, a file of texts, or - for standard input'],
    [[trained.config, '--text', 'a', trained.at('new.csv')], 'pass either --text'],
    [[trained.config, '--text', ' '], '--text number 1 is empty'],
    [
      [trained.config, '--no-adapter', '--text', 'a'],
      'the head that tells classes apart comes with an adapter',
    ],
    [['--model', trained.model, '--text', 'a'], 'pass --adapter, or the config of its run'],
    [[trained.config, '--set', 'task=causal_lm', '--text', 'a'], 'the task of the config is causal_lm'],
    [[trained.config, trained.at('other.csv')], 'there is no column "message", only "id", "body"'],
  ]
  for (const [args, error] of cases) {
    const { code, stderr } = await lowrank(['classify', ...args])
    expect(stderr).toContain(error)
    expect(code).toBeGreaterThan(0)
  }
})

sweepTest('an adapter of a language model is refused by name', async () => {
  const { config, at, model } = project({ max_steps: 1, strategy: { name: 'lora', r: 2 } })
  expect((await lowrank(['train', config])).code).toBe(0)
  const { code, stderr } = await lowrank([
    'classify',
    '--model',
    model,
    '--adapter',
    at('out'),
    '--text',
    'a',
  ])
  expect(stderr).toContain(`${at('out')} tells no classes apart; train with task: classification`)
  expect(code).toBe(2)
})
