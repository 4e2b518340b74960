import { existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { PassThrough } from 'node:stream'
import { beforeAll, expect, test, vi } from 'vitest'
import { Conversation } from '../../../lib/cli/chat.js'
import { Output } from '../../../lib/cli/output.js'
import type { Printed } from '../../../lib/cli/schemas.js'
import { openDataset } from '../../../lib/data/dataset.js'
import { RowEncoder } from '../../../lib/data/encode.js'
import { type EncodedRow, IGNORE } from '../../../lib/data/encoded-row.js'
import { loadModel } from '../../../lib/model/load.js'
import { readTokenizerSource } from '../../../lib/tokenizer/read-source.js'
import { type Project, project } from '../../e2e/project.js'
import { tinyToolModel } from '../../e2e/tiny-model.js'
import { sweepTest } from '../../sweep.js'
import { scratchFile } from '../scratch.js'
import { jsonLines, lowrank, signalWhen, withoutWaits } from './lowrank.js'

const exchange = (question: string, answer: string) => [
  { role: 'user', content: question },
  { role: 'assistant', content: answer },
]

/** Long for machines that are busy, and often: an answer is over soon. */
const patient = { timeout: 20_000, interval: 1 }

/** A model of 128 bytes of context with an adapter that gives two answers. */
let home: Project
beforeAll(async () => {
  home = project({ strategy: { name: 'lora', r: 8, lora_alpha: 16 }, max_steps: 60, learning_rate: 5e-3 })
  const rows = [exchange('a?', 'Red.'), exchange('b?', 'Blue.')].map((messages) =>
    JSON.stringify({ messages }),
  )
  writeFileSync(home.at('train.jsonl'), `${rows.join('\n')}\n`.repeat(10))
  const { code } = await lowrank(['train', home.config, '--set', 'lr_scheduler_type=constant'])
  expect(code).toBe(0)
})

const talk = (lines: string[], ...flags: string[]) =>
  lowrank(['chat', home.config, ...flags], { input: `${lines.join('\n')}\n` })

test('lines from a pipe are answered on stdout, and nothing else is there', async () => {
  const { code, stdout, stderr } = await talk(['a?', '', '/reset', 'b?'])
  expect(code).toBe(0)
  expect(stdout).toBe('Red.\nBlue.\n')
  expect(withoutWaits(stderr)).toBe(`Loading ${home.model} with ${home.at('out')}\nThe history is cleared.\n`)
})

test('with --json every line is an event, and the cache is used from turn to turn', async () => {
  const { code, stdout } = await talk(
    [
      '/system Hi',
      'a?',
      '/adapter',
      '/adapter off',
      '/reset',
      '/system off',
      'a?',
      '/adapter out=0.5',
      '/exit',
      'b?',
    ],
    '--json',
    '--max-new-tokens',
    '6',
  )
  expect(code).toBe(0)
  const events = jsonLines(stdout) as Record<string, unknown>[]
  expect(events.map(({ event }) => event)).toEqual([
    'system',
    'answer',
    'adapter',
    'adapter',
    'reset',
    'reset',
    'system',
    'answer',
    'adapter',
    'reset',
  ])
  expect(events[0]).toEqual({ event: 'system', system: 'Hi' })
  expect(events[2]).toEqual({ event: 'adapter', adapters: [{ name: 'out', weight: 1 }] })
  expect(events[3]).toEqual({ event: 'adapter', adapters: [{ name: 'out', weight: 0 }] })
  expect(events[7]?.text).not.toBe('Red.')
  expect(events[8]).toEqual({ event: 'adapter', adapters: [{ name: 'out', weight: 0.5 }] })
  const two = jsonLines((await talk(['a?', 'b?'], '--json')).stdout) as Record<string, number>[]
  expect(two[0]).toMatchObject({ text: 'Red.', finish_reason: 'stop', reused_tokens: 0 })
  expect(two[1]).toMatchObject({ prompt: 'b?', dropped_messages: 0 })
  expect(two[1]?.reused_tokens).toBeGreaterThan(two[0]?.prompt_tokens as number)
})

sweepTest('turns that no longer fit the context are dropped, and that is said', async () => {
  const { code, stderr, stdout } = await talk(['a?', 'b?', 'a?', 'b?', 'a?'], '--max-new-tokens', '8')
  expect(code).toBe(0)
  expect(stdout.split('\n')).toHaveLength(6)
  expect(stderr).toMatch(
    /^note: the oldest [246] messages no longer fit the context of 128 tokens and were dropped\.$/m,
  )
})

sweepTest('a chat is saved as data that can be trained on, once', async () => {
  const path = home.at('saved.jsonl')
  const { code } = await talk(['/system Hi', 'a?', `/save ${path}`, 'b?', `/save ${path}`])
  expect(code).toBe(0)
  const [row] = jsonLines(readFileSync(path, 'utf8')) as { messages: { role: string; content: string }[] }[]
  expect(row?.messages).toHaveLength(5)
  expect(row?.messages.slice(0, 2)).toEqual([
    { role: 'system', content: 'Hi' },
    { role: 'user', content: 'a?' },
  ])
  expect((await lowrank(['inspect', path])).code).toBe(0)
  const again = await talk(['a?', `/save ${path}`])
  expect(again).toMatchObject({
    code: 2,
    stderr: expect.stringContaining('saved.jsonl exists; name another'),
  })
})

test('tools and their results reach the model as in training', async () => {
  const folder = tinyToolModel()
  const tools = scratchFile('tools.json', '[{"function": {"name": "stock", "default": 1.0}}]')
  const saved = home.at('tools.jsonl')
  const lines = ['How many?', '/hold stock {"n": 16}', '/tool {"n": 2}', `/save ${saved}`]
  const flags = ['--model', folder, '--tools', tools, '--max-new-tokens', '3', '--json']
  const { code, stdout, stderr } = await lowrank(['chat', ...flags], { input: `${lines.join('\n')}\n` })
  expect({ code, stderr }).toMatchObject({ code: 0 })
  const answers = jsonLines(stdout) as Printed<'chat'>[]
  expect(answers).toMatchObject([
    { event: 'answer', prompt: 'How many?' },
    { event: 'hold', results: 1 },
    { event: 'answer', prompt: '{"n": 16}\n{"n": 2}' },
    { event: 'save' },
  ])
  const text = readFileSync(saved, 'utf8')
  expect(text).toContain('"tools": [{"function": {"name": "stock", "default": 1.0}}]')
  expect(JSON.parse(text).messages.slice(2, 4)).toEqual([
    { role: 'tool', name: 'stock', content: '{"n": 16}' },
    { role: 'tool', content: '{"n": 2}' },
  ])
  const encoded = new RowEncoder(await readTokenizerSource({ kind: 'folder', path: folder }), {
    maxSeqLength: 4096,
  })
  const { format, fileType, columns } = { format: 'auto', fileType: 'auto', columns: {} } as const
  const rows = openDataset([saved], { format, fileType, columns, header: true })
  for await (const row of rows) {
    const { labels } = encoded.encode(row) as EncodedRow
    const starts = [...labels.keys()].filter((at) => labels[at] !== IGNORE && labels[at - 1] === IGNORE)
    expect(answers.flatMap((answer) => ('prompt_tokens' in answer ? answer.prompt_tokens : []))).toEqual(
      starts,
    )
  }
})

test.each([
  [[], '[{"name": "stock"}]', 'the chat template ignores "tools"'],
  [['--raw'], '[{"name": "stock"}]', 'chat(): tools were given, but the prompt is raw text'],
  [[], '{"name": "stock"}', 'expected a JSON list of tool schemas'],
  [[], '[{"name": "stock"}, {"type": "function", "function": {}}]', 'tool 2 of 2 has no name; expected'],
])('tools without a place for them are refused: %j, %s', async (flags, content, message) => {
  const tools = scratchFile('tools.json', content)
  const { code, stderr } = await talk(['a?'], ...flags, '--tools', tools)
  expect({ code, stderr }).toMatchObject({
    code: expect.any(Number),
    stderr: expect.stringContaining(message),
  })
  expect(code).not.toBe(0)
  expect(stderr.match(/error:/g)).toHaveLength(1)
})

test.each([
  ['missing.json', /--tools .*missing\.json does not exist/],
  ['-', /--tools -: standard input holds the turns of the chat; name a file/],
])('--tools %s is refused by its name', async (file, message) => {
  const { code, stderr } = await talk(['a?'], '--tools', file)
  expect({ code, stderr }).toMatchObject({ stderr: expect.stringMatching(message) })
  expect(code).not.toBe(0)
  expect(stderr.match(/error:/g)).toHaveLength(1)
})

test('a result of a tool cannot be given as raw text, nor left out', async () => {
  const { stderr } = await talk(['/tool 16'], '--raw')
  expect(stderr).toContain('note: turns are passed as plain text: --raw was given.')
  expect(stderr).toContain('no place for other roles')
  expect((await talk(['/tool'])).stderr).toContain('/tool needs a result')
  expect((await talk(['/hold 16', 'a?'])).stderr).toContain('results are held for /tool')
  expect(await talk(['/hold 16'])).toMatchObject({
    code: 2,
    stderr: expect.stringContaining('results are held, and no /tool sent them'),
  })
  const tools = scratchFile('tools.json', '[{"name": "stock"}]')
  expect((await talk(['/tool stock'], '--tools', tools)).stderr).toContain('/tool needs a result')
})

test.each([
  [['/rest'], 'there is no command /rest; did you mean /reset?'],
  [['/zzzzzz'], 'there is no command /zzzzzz; /help lists them all.'],
  [['/adapter xut'], 'has no adapter xut; it has out'],
  [['/adapter out=x'], 'adapter out: weight is NaN, expected a finite number'],
  [['/save'], '/save needs a file, as in /save chat.jsonl.'],
  [['/save x.jsonl'], 'there is nothing to save yet.'],
])('a script ends at %j', async (lines, message) => {
  const { code, stdout, stderr } = await talk([...lines, 'a?'], '--json')
  expect(code).toBe(2)
  expect(stderr).toContain(message)
  const [event, ...more] = jsonLines(stdout) as { event: string; message: string }[]
  expect(more).toEqual([])
  expect(event).toMatchObject({ event: 'error', message: expect.stringContaining(message) })
})

test('a text may begin with a slash, if it has two', async () => {
  const [answer] = jsonLines((await talk(['//a?'], '--json')).stdout) as { prompt: string }[]
  expect(answer?.prompt).toBe('/a?')
})

test('without an adapter there is none to switch to', async () => {
  const { code, stderr } = await talk(['/adapter on'], '--no-adapter')
  expect({ code, stderr }).toMatchObject({
    code: 2,
    stderr: expect.stringContaining('start the chat with --adapter'),
  })
})

test('a model without a chat template is told of and goes on from the text', async () => {
  const { model } = project()
  rmSync(join(model, 'tokenizer_config.json'))
  const flags = ['--model', model, '--max-new-tokens', '4']
  const { code, stdout, stderr } = await lowrank(['chat', ...flags, '--json'], { input: 'One\n' })
  expect(code).toBe(0)
  expect(stderr).toContain('note: turns are passed as plain text: the model has no chat template.')
  const raw = await lowrank(['generate', ...flags, '--raw', '--prompt', 'One', '--json'])
  const [said] = jsonLines(stdout) as { text: string }[]
  expect(said?.text).toBe((jsonLines(raw.stdout) as { text: string }[])[0]?.text)
})

/** A person at a terminal: what they see on stderr and stdout, and what they type. */
async function person() {
  const model = await loadModel(home.model, { precision: 'fp32' })
  await model.loadAdapter(home.at('out'))
  const chat = await model.chat({ contextTokens: 128 })
  const terminal = () =>
    Object.assign(new PassThrough(), { isTTY: true, columns: 80, hasColors: () => false })
  const [keys, stdout, stderr] = [terminal(), terminal(), terminal()]
  const screen = { text: '' }
  for (const stream of [stdout, stderr]) stream.on('data', (part) => (screen.text += part))
  const streams = [keys, stdout, stderr] as unknown as [NodeJS.ReadStream, ...NodeJS.WriteStream[]]
  const output = new Output(false, streams[1], streams[2])
  const ended = new Conversation(model, chat, output, streams[0]).run().finally(() => model.dispose())
  const sees = (text: string | RegExp) => vi.waitFor(() => expect(screen.text).toMatch(text), patient)
  return { chat, keys, screen, sees, ended }
}

test('a person sees prompts, answers and errors, and leaves by Ctrl-D', async () => {
  const { keys, sees, ended } = await person()
  await sees('> ')
  keys.write('a?\r')
  await sees('Red.\n')
  keys.write('/adaptr\r')
  await sees('error: there is no command /adaptr; did you mean /adapter?')
  keys.write('/help\r')
  await sees(/\/save FILE +save the chat/)
  keys.write('b?\r')
  await sees(/Blue/)
  keys.write('\u0004')
  await expect(ended).resolves.toBeUndefined()
})

test('Ctrl-C stops an answer and keeps it as far as it came; the second one in a row leaves', async () => {
  const { chat, keys, screen, sees, ended } = await person()
  // Without its adapter the model answers until the context is full.
  keys.write('/adapter off\r')
  await sees('out (off)')
  // Pressed at the first piece: a terminal shows words once they are whole, and this answer may be one word.
  const send = chat.send.bind(chat)
  chat.send = async function* (...call) {
    const parts = send(...call)
    const first = await parts.next()
    keys.write('\u0003')
    if (first.done) return first.value
    yield first.value
    return yield* parts
  }
  keys.write('a?\r')
  await sees('(stopped)')
  expect(chat.messages.map(({ role }) => role)).toEqual(['user', 'assistant'])
  keys.write('/adapter on\r')
  await sees(/Adapters: out\n/)
  keys.write('\u0003')
  await sees('Press Ctrl-C again or Ctrl-D to quit.')
  // Typed text is discarded, and the chat continues.
  const told = () => screen.text.split('Press Ctrl-C again').length
  const times = told()
  keys.write('half a question')
  keys.write('\u0003')
  await vi.waitFor(() => expect(told()).toBe(times + 1), patient)
  keys.write('/adapter\r')
  await vi.waitFor(() => expect(screen.text.split('Adapters: out\n').length).toBe(3), patient)
  keys.write('\u0003')
  keys.write('\u0003')
  await expect(ended).resolves.toBeUndefined()
})

test('a signal ends a script, keeping what was said before', async () => {
  const lines = Array.from({ length: 200 }, (_, i) => (i % 2 === 0 ? 'a?' : 'b?'))
  const { code, stdout, stderr } = await lowrank(['chat', home.config], {
    input: `${lines.join('\n')}\n`,
    watch: signalWhen('SIGTERM', (soFar) => soFar.stdout.includes('\n')),
  })
  expect(code, stderr).toBe(130)
  expect(stdout.startsWith('Red.\n')).toBe(true)
  expect(stdout.split('\n').length).toBeLessThan(200)
  expect(stderr).toContain('interrupted: stopped on request.')
  expect(existsSync(home.at('out'))).toBe(true)
})
