import { execFileSync } from 'node:child_process'
import { mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { gzipSync } from 'node:zlib'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { ConfigError, DataError, FileFormatError } from '../../../lib/core/errors.js'
import { type DatasetRow, type OpenDatasetOptions, openDataset } from '../../../lib/data/dataset.js'
import { needs } from '../../needs.js'
import { scratchFile } from '../scratch.js'

let folder: string
let count = 0

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'lowrank-dataset-'))
})
afterAll(() => rmSync(folder, { recursive: true }))

function file(content: string | Uint8Array): string {
  const path = join(folder, `${count++}.jsonl`)
  writeFileSync(path, content)
  return path
}

const lines = (...rows: unknown[]) => rows.map((row) => JSON.stringify(row)).join('\n')

async function read(path: string | string[], options?: OpenDatasetOptions): Promise<DatasetRow[]> {
  const rows: DatasetRow[] = []
  for await (const row of openDataset(path, options)) rows.push(row)
  return rows
}

async function* chunks(...parts: (string | Uint8Array)[]) {
  for (const part of parts) yield Buffer.from(part)
}

const one = { role: 'user', content: 'hi' }

describe('a dataset', () => {
  it('is read in the form of its first row, with line numbers', async () => {
    const path = file(lines({ text: 'a' }, { text: 'b', id: 3 }))
    expect(await read(path)).toEqual([
      { format: 'text', text: 'a', path, line: 1 },
      { format: 'text', text: 'b', path, line: 2 },
    ])
  })

  it('may have a byte order mark, CRLF, blank lines and no line end at the end', async () => {
    const path = file('\ufeff{"text":"a"}\r\n\r\n   \r\n{"text":"b"}\n\n{"text":"c"}')
    expect((await read(path)).map(({ line }) => line)).toEqual([1, 4, 6])
  })

  it('keeps characters that are cut by the pieces in which the file is read', async () => {
    const text = 'ä你🎉'.repeat(30_000)
    const path = file(lines({ text }, { text: `x${text}` }, { text: `yy${text}` }))
    const rows = await read(path)
    expect(rows.map((row) => row.format === 'text' && row.text)).toEqual([text, `x${text}`, `yy${text}`])
  })

  it('may be several files', async () => {
    const paths = [file(lines({ text: 'a' })), file(lines({ text: 'b' }))]
    expect((await read(paths)).map(({ path, line }) => [path, line])).toEqual(paths.map((path) => [path, 1]))
  })

  it('may be empty', async () => {
    expect(await read(file('\n\n'))).toEqual([])
  })

  it('has its form named where several would do', async () => {
    const path = file(lines({ text: 'a', prompt: 'p', completion: 'c' }))
    expect(await read(path)).toMatchObject([{ format: 'prompt_completion' }])
    expect(await read(path, { format: 'text' })).toMatchObject([{ format: 'text', text: 'a' }])
  })
})

describe('a column that looks like a label', () => {
  const unused = async (row: unknown, options: OpenDatasetOptions = {}) => {
    const found: (string | undefined)[] = []
    await read(file(lines(row)), { ...options, onDetected: ({ unusedLabel }) => found.push(unusedLabel) })
    return found
  }

  it('is named when it stands beside a plain text', async () => {
    expect(await unused({ text: 'a', label: 1 })).toEqual(['label'])
    expect(await unused({ id: 1, target: 'x', text: 'a' })).toEqual(['target'])
  })

  it('is not named where it is used, or the rows are no plain text', async () => {
    const columns = { prompt: 'text', completion: 'label' }
    expect(await unused({ text: 'a', label: 'b' }, { columns })).toEqual([undefined])
    expect(await unused({ text: 'a', label: 'b' }, { groupBy: 'label' })).toEqual([undefined])
    expect(await unused({ prompt: 'a', completion: 'b', label: 1 })).toEqual([undefined])
    expect(await unused({ text: 'a', id: 1 })).toEqual([undefined])
  })
})

describe('a chat', () => {
  const messages = async (value: unknown) => {
    const [row] = await read(file(lines(value)))
    return row?.format === 'messages' ? row.messages : undefined
  }

  it('keeps weights, names and tools', async () => {
    const chat = [one, { role: 'assistant', content: 'a', weight: 0 }, { ...one, name: 'x', weight: null }]
    const [row] = await read(file(lines({ messages: chat, tools: [{ a: 1 }] })))
    expect(row).toMatchObject({
      messages: [one, { role: 'assistant', content: 'a', weight: 0 }, { ...one, name: 'x' }],
      tools: [{ a: 1 }],
    })
  })

  it('has its text parts joined and the developer made the system', async () => {
    const parts = [
      { type: 'text', text: 'a' },
      { type: 'text', text: 'b' },
    ]
    expect(await messages({ messages: [{ role: 'developer', content: parts }, one] })).toEqual([
      { role: 'system', content: 'ab' },
      one,
    ])
  })

  it('has the arguments of tool calls parsed', async () => {
    const call = (given: unknown) => ({ type: 'function', function: { name: 'f', arguments: given } })
    const turn = { role: 'assistant', tool_calls: [call('{"a":1}'), call({ b: 2 })] }
    expect(await messages({ messages: [one, turn] })).toEqual([
      one,
      { role: 'assistant', content: null, tool_calls: [call({ a: 1 }), call({ b: 2 })] },
    ])
  })

  it('is made of prompt and completion that are lists, of which only the completion counts', async () => {
    const answer = { role: 'assistant', content: 'a' }
    expect(await messages({ prompt: [one, answer, one], completion: [answer] })).toEqual([
      { ...one, weight: 0 },
      { ...answer, weight: 0 },
      { ...one, weight: 0 },
      answer,
    ])
  })
})

describe('an error names file and line', () => {
  const first = { text: 'a' }
  const chat = (...messages: unknown[]) => lines({ messages })
  it.each([
    ['no JSON', `${lines(first)}\n{"text": "b"`, /line 2: the line is not valid JSON/],
    ['JSON over several lines', '{\n"text": "b"}', /line 1: .*spread over several lines.*jq -c/],
    ['an array', '{"text": "a"}\n[{"text": "b"}]', /line 2: expected a JSON object, found an array.*jq/],
    ['a string', '"b"', /line 1: expected a JSON object, found the string "b"/],
    [
      'another form later',
      lines(first, {}, { messages: [one] }),
      /line 2: expected \{"text": …\}, but there are only empty object/,
    ],
    [
      'a form that is not known',
      lines({ question: 'x', answer: 'y' }),
      /line 1: .*keys "question", "answer"; expected \{"messages".* or \{"prompt".* or \{"text".*columns: \{prompt: question, completion: answer\}/,
    ],
    ['a number for text', lines({ text: 3 }), /line 1: expected \{"text": …\}, but "text" is 3/],
    ['a prompt without completion text', lines({ prompt: 'a', completion: null }), /"completion" is null/],
    [
      'a mix of text and list',
      lines({ prompt: 'a', completion: [one] }),
      /must both be strings or both be lists/,
    ],
    ['messages of another kind', lines({ messages: 'x' }), /"messages" is the string "x"/],
    ['no messages', chat(), /"messages" is empty/],
    ['a message that is text', chat('x'), /messages\[0\] must be an object.*not the string "x"/],
    [
      'an unknown role',
      chat(one, { role: 'bot', content: '' }),
      /role of messages\[1\] must be one of system, developer, user, assistant, tool, not the string "bot"/,
    ],
    ['no content', chat({ role: 'user' }), /messages\[0\] has no "content"/],
    [
      'content of another kind',
      chat({ role: 'user', content: 5 }),
      /content of messages\[0\] must be a string, not 5/,
    ],
    [
      'an image',
      chat({ role: 'user', content: [{ type: 'image_url' }] }),
      /content part of type the string "image_url"/,
    ],
    ['another weight', chat({ ...one, weight: 0.5 }), /weight of messages\[0\] must be 0 or 1, not 0.5/],
    [
      'tools of another kind',
      lines({ messages: [one], tools: {} }),
      /"tools" must be an array, not an object/,
    ],
    [
      'broken arguments',
      chat({ role: 'assistant', tool_calls: [{ function: { arguments: '{' } }] }),
      /arguments of a tool call in messages\[0\] are not valid JSON: "\{"/,
    ],
    [
      'a key that is there twice',
      `${lines(first)}\n{"text": "a", "text": "b"}`,
      /line 2: the key "text" appears twice in one object; keep one/,
    ],
    [
      'a key that is there twice in arguments',
      chat({ role: 'assistant', tool_calls: [{ function: { name: 'f', arguments: '{"a":1,"a":2}' } }] }),
      /line 1: in the arguments of a tool call in messages\[0\] the key "a" appears twice/,
    ],
    [
      'a key that is there twice in text of a list',
      lines({ messages: [one], tools: '[{"name": "f", "name": "g"}]' }),
      /line 1: in "tools" the key "name" appears twice/,
    ],
    [
      'a preference',
      lines({ prompt: 'a', chosen: 'b', rejected: 'c' }),
      /line 1: the row has "chosen" and "rejected", .* set task: dpo or task: orpo .*: columns: \{completion: chosen\}$/,
    ],
    [
      'a preference of chats',
      lines({ chosen: [one], rejected: [one] }),
      /set task: dpo or task: orpo .* columns: \{messages: chosen\}$/,
    ],
    [
      'a preference beside messages',
      lines({ messages: [one], chosen: [one], rejected: [one] }),
      /columns: \{messages: chosen\}, or train on its messages with format: messages$/,
    ],
    [
      'a verdict on an answer',
      lines({ prompt: 'a', completion: 'b', label: false }),
      /line 1: the row has "prompt", "completion" and a "label" of true or false, .* set task: kto for it; .*format: prompt_completion$/,
    ],
    [
      'an old function call',
      chat(one, { role: 'assistant', content: null, function_call: { name: 'f', arguments: '{}' } }),
      /line 1: messages\[1\] has a "function_call", the older form of "tool_calls"; write it as "tool_calls": \[/,
    ],
    [
      'an old function call as a role',
      chat(one, { role: 'function_call', content: '{"name": "f"}' }),
      /messages\[1\] has a "function_call", the older form of "tool_calls"/,
    ],
    [
      'an old result of a function',
      chat(one, { role: 'function', name: 'f', content: '3' }),
      /role of messages\[1\] must be one of .*not the string "function"; the result of a call has the role "tool"/,
    ],
    [
      'old functions',
      lines({ messages: [one], functions: [{ name: 'f' }] }),
      /line 1: the row has "functions", the older form of "tools"/,
    ],
    [
      'no tool calls and no content',
      chat({ role: 'assistant', content: null, tool_calls: [] }),
      /messages\[0\] has no "content"/,
    ],
    ['a call of nothing', chat({ role: 'assistant', tool_calls: [{}] }), /needs a "function"/],
  ] as const)('for %s', async (_, content, message) => {
    const path = file(content)
    const reading = read(path)
    await expect(reading).rejects.toThrow(DataError)
    await expect(read(path)).rejects.toThrow(message)
    await expect(read(path)).rejects.toThrow(path)
  })

  it('for bytes that are no UTF-8', async () => {
    const path = file(
      Buffer.concat([Buffer.from('{"text":"a"}\n{"text":"'), Buffer.of(0xff), Buffer.from('"}\n')]),
    )
    await expect(read(path)).rejects.toThrow(/line 2: the line is not UTF-8/)
  })

  it.each([
    ['gzip', gzipSync('{"text":"a"}\n'), 'is compressed by gzip; let its name end in .gz'],
    ['a spreadsheet', Buffer.from('PK\u0003\u0004…'), 'is a ZIP archive, as .xlsx and .ods files are'],
    ['a PDF', Buffer.from('%PDF-1.4\n'), 'is a PDF document; save its text to a file'],
  ])('for %s, whatever its name is', async (_, content, message) => {
    for (const name of ['a.jsonl', 'a.csv', 'a.txt', 'a.data'])
      await expect(read(scratchFile(name, content))).rejects.toThrow(`${name} ${message}`)
  })

  it('for compressed standard input, which has no name to change', async () => {
    await expect(read('-', { stdin: chunks(gzipSync('{"text":"a"}\n')) })).rejects.toThrow(
      'standard input is compressed by gzip; decompress it, e.g. with gunzip -c',
    )
  })

  it('but not for text that begins like another kind of file', async () => {
    expect(await read(scratchFile('a.txt', '%PDE solver'))).toMatchObject([{ text: '%PDE solver' }])
    expect(await read(scratchFile('b.txt', '\ufeffa'))).toMatchObject([{ text: 'a' }])
    await expect(read('-', { fileType: 'text', stdin: chunks('%P', 'D', 'F-1.4') })).rejects.toThrow('a PDF')
  })

  it('for a link to a file that is gone, without suggesting the link', async () => {
    needs('symbolic links for every user')
    const link = scratchFile('linked.jsonl', '')
    rmSync(link)
    symlinkSync(join(folder, 'gone.jsonl'), link)
    await expect(read(link)).rejects.toThrow(/^(?!.*did you mean)/)
  })

  it('for a misspelled path, with the path that is there', async () => {
    const path = scratchFile('train.jsonl', '{"text":"a"}\n')
    await expect(read(path.replace('.jsonl', '.json'))).rejects.toThrow(
      `does not exist; did you mean ${path}?`,
    )
  })

  it('for a line without end', async () => {
    const path = file(Buffer.alloc((64 << 20) + (1 << 20), 'a'))
    await expect(read(path)).rejects.toThrow(/line 1: the line is longer than/)
  })
})

it('refuses a missing file and an unknown format', async () => {
  await expect(read(join(folder, 'missing.jsonl'))).rejects.toThrow(FileFormatError)
  await expect(read(file(''), { format: 'llama' as never })).rejects.toThrow(ConfigError)
  await expect(read(file(''), { format: 'llama' as never })).rejects.toThrow(
    /"llama" is unknown; expected auto, messages/,
  )
})

it('refuses devices and named pipes', async () => {
  needs('named pipes in folders')
  await expect(read('/dev/null')).rejects.toThrow(/not a regular file/)
  for (const name of ['pipe.jsonl', 'pipe.csv', 'pipe.parquet', 'pipe.txt']) {
    execFileSync('mkfifo', [join(folder, name)])
    await expect(read(join(folder, name))).rejects.toThrow(/pipe\.\w+ is a named pipe: .* standard input/)
  }
})

it('reads rows with a verdict where their form is named, and labels that are none', async () => {
  const kto = file(lines({ prompt: 'a', completion: 'b', label: true }))
  await expect(read(kto)).rejects.toThrow(/task: kto/)
  expect(await read(kto, { format: 'prompt_completion' })).toMatchObject([{ prompt: 'a', completion: 'b' }])
  expect(await read(file(lines({ prompt: 'a', completion: 'b', label: 'good' })))).toHaveLength(1)
  await expect(read(file('prompt,completion,label\na,b,True\n'), { fileType: 'csv' })).rejects.toThrow(
    /task: kto/,
  )
})
