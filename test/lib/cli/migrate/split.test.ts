import { readFileSync } from 'node:fs'
import { expect, test } from 'vitest'
import { linesOf, splitFile } from '../../../../lib/cli/migrate/split.js'
import { scratchFile } from '../../scratch.js'

type Turn = [role: string, content: string, weight?: 0 | 1]

const chat = (...turns: Turn[]) =>
  JSON.stringify({
    messages: turns.map(([role, content, weight]) => ({
      role,
      content,
      ...(weight === undefined ? {} : { weight }),
    })),
  })
const asked = (question: string, answer: string) => chat(['user', question], ['assistant', answer])
const fileOf = (lines: readonly string[]) =>
  scratchFile('rows.jsonl', lines.map((line) => `${line}\n`).join(''))

/** The lines of both parts. */
async function partsOf(lines: readonly string[], options: { seed: number; count?: number }) {
  const path = fileOf(lines)
  const split = await splitFile(path, options)
  const texts = async (numbers: number[]) => (await linesOf(path, numbers)).toString().trimEnd().split('\n')
  return { split, train: await texts(split.train), heldOut: await texts(split.heldOutLines) }
}

const forty = Array.from({ length: 40 }, (_, i) => asked(`What is ${i}?`, `It is ${i}.`))

test('the parts are disjoint, make up the data, and are the same for the same seed in any order', async () => {
  const one = await partsOf(forty, { seed: 1 })
  expect(one.heldOut).toHaveLength(8)
  expect([...one.train, ...one.heldOut].sort()).toEqual([...forty].sort())
  const turned = await partsOf([...forty].reverse(), { seed: 1 })
  expect([...turned.heldOut].sort()).toEqual([...one.heldOut].sort())
  const other = await partsOf(forty, { seed: 2 })
  expect([...other.heldOut].sort()).not.toEqual([...one.heldOut].sort())
  expect((await partsOf(forty, { seed: 1, count: 3 })).heldOut).toHaveLength(3)
})

test('repeated rows are left out, and rows of one prompt are on one side', async () => {
  const twice = Array.from({ length: 20 }, (_, i) => asked(`What is ${i}?`, 'Another answer.'))
  const lines = [...forty, ...twice, ...forty.slice(0, 10)]
  const { split, train, heldOut } = await partsOf(lines, { seed: 3, count: 15 })
  expect(split).toMatchObject({ rows: 70, repeated: 10 })
  expect(train.length + heldOut.length).toBe(60)
  const prompts = (part: string[]) => new Set(part.map((line) => JSON.parse(line).messages[0].content))
  const [one, other] = [prompts(train), prompts(heldOut)]
  expect([...one].filter((prompt) => other.has(prompt))).toEqual([])
  expect(heldOut.length).toBeGreaterThan(other.size)
})

test('a row is not held out where a longer chat trains on its prompt', async () => {
  const long = (weight?: 0 | 1) =>
    Array.from({ length: 10 }, (_, i) =>
      chat(
        ['user', `What is ${i}?`],
        ['assistant', `It is ${i}.`, weight],
        ['user', 'Sure?'],
        ['assistant', `Yes, ${i}.`],
      ),
    )
  const first = forty.slice(0, 10)
  // Every group has a short and a long row, and only one fits.
  const apart = await partsOf([...first, ...long(), ...forty.slice(10, 12)], { seed: 1, count: 1 })
  expect(apart.heldOut.every((line) => forty.slice(10, 12).includes(line))).toBe(true)
  const unlearned = await partsOf([...first, ...long(0)], { seed: 1, count: 1 })
  expect(unlearned.heldOut).toHaveLength(1)
})

test('the question is the last answer that is trained on, and its weight is not shown', async () => {
  const turns: Turn[] = [
    ['system', 'Be brief.'],
    ['user', 'One?'],
    ['assistant', 'One.', 0],
    ['user', 'Two?'],
    ['assistant', 'Two.'],
    ['user', 'Three?'],
    ['assistant', 'Three.', 0],
  ]
  const lines = [chat(...turns), chat(['user', 'x'], ['assistant', 'y'])]
  for (const seed of [1, 2, 3, 4, 5, 6, 7, 8]) {
    const { split } = await partsOf(lines, { seed, count: 1 })
    const [row] = split.heldOut
    if (row?.row !== 1) continue
    expect(row.expected).toBe('Two.')
    expect(row.prompt).toEqual(turns.slice(0, 4).map(([role, content]) => ({ role, content })))
    return
  }
  expect.unreachable('no seed holds out the first row')
})

test('preference rows ask for the preferred answer, and calls are compared by value', async () => {
  const tools = [
    { type: 'function', function: { name: 'look_up', parameters: { type: 'object', properties: {} } } },
  ]
  const call = (i: number) => ({
    role: 'assistant',
    content: null,
    tool_calls: [
      {
        id: 'call_1',
        type: 'function',
        function: { name: 'look_up', arguments: `{"n": ${i}, "all": true}` },
      },
    ],
  })
  const pairs = Array.from({ length: 4 }, (_, i) =>
    JSON.stringify({
      input: { messages: [{ role: 'user', content: `What is ${i}?` }] },
      preferred_output: [{ role: 'assistant', content: `It is ${i}.` }],
      non_preferred_output: [{ role: 'assistant', content: 'Who knows.' }],
    }),
  )
  const { split } = await partsOf(pairs, { seed: 1, count: 1 })
  const { row, ...question } = split.heldOut[0] as (typeof split.heldOut)[number]
  expect(question).toEqual({
    prompt: [{ role: 'user', content: `What is ${row - 1}?` }],
    expected: `It is ${row - 1}.`,
  })
  const calling = Array.from({ length: 4 }, (_, i) =>
    JSON.stringify({ messages: [{ role: 'user', content: `Look up ${i}` }, call(i)], tools }),
  )
  const found = (await partsOf(calling, { seed: 1, count: 1 })).split.heldOut[0]
  expect(found?.tools).toEqual(tools)
  expect(found?.expected).toBe(`[{"arguments":{"all":true,"n":${(found?.row ?? 0) - 1}},"name":"look_up"}]`)
})

test.each([
  [
    'a row of reinforcement',
    chat(['user', 'x']),
    /line 2: the chat ends with the user, as rows of reinforcement do/,
  ],
  [
    'nothing that is trained on',
    chat(['user', 'x'], ['assistant', 'y', 0]),
    /line 2: the chat has no answer with a weight of 1/,
  ],
])('%s is refused by its line', async (_what, line, message) => {
  await expect(splitFile(fileOf([asked('a', 'b'), line]), { seed: 1 })).rejects.toThrow(message)
})

test('texts and other rows are refused, and so is data of which nothing can be held out', async () => {
  const texts = scratchFile('texts.jsonl', '{"text": "a"}\n')
  await expect(splitFile(texts, { seed: 1 })).rejects.toThrow(
    /line 1: expected a row of OpenAI's fine-tuning .* found text/,
  )
  const same = Array.from({ length: 5 }, (_, i) => asked('What?', `It is ${i}.`))
  await expect(splitFile(fileOf(same), { seed: 1 })).rejects.toThrow(/5 rows with too few different prompts/)
  await expect(splitFile(fileOf([asked('a', 'b')]), { seed: 1 })).rejects.toThrow(/too few different prompts/)
})

test('rows keep their bytes and numbers, beside blank lines, a byte order mark, and a last line without an end', async () => {
  const path = scratchFile('rows.jsonl', `\ufeff${forty[0]}\r\n\n${forty[1]}\n${forty[2]}`)
  const { train, heldOut, heldOutLines } = await splitFile(path, { seed: 1, count: 1 })
  const rowOf = new Map([
    [1, 1],
    [3, 2],
    [4, 3],
  ])
  expect(heldOut.map(({ row }) => row)).toEqual(heldOutLines.map((line) => rowOf.get(line)))
  const all = Buffer.concat([await linesOf(path, train), await linesOf(path, heldOutLines)]).toString()
  expect(all.replaceAll('\r', '').trimEnd().split('\n').sort()).toEqual(forty.slice(0, 3).sort())
  expect(readFileSync(path, 'utf8').charCodeAt(0)).toBe(0xfeff)
})
