/** `lowrank demo` in short: its story, its events and its files; test/real/demo.test.ts has the whole of it. */
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { expect, test } from 'vitest'
import { scratchFolder } from '../scratch.js'
import { jsonLines, lowrank, signalWhen } from './lowrank.js'

const root = fileURLToPath(new URL('../../../', import.meta.url))
const items = readFileSync(join(root, 'demo/test.jsonl'), 'utf8').trim().split('\n')

/** A folder with few held-out items, and the flags of a demo that is over soon. */
function short(steps = 2) {
  const cwd = scratchFolder()
  const held = join(cwd, 'held.jsonl')
  writeFileSync(held, `${items.slice(0, 5).join('\n')}\n`)
  return { cwd, flags: ['--set', `max_steps=${steps}`, '--set', `eval_dataset=${held}`] }
}

test('prints the events of a run, with what it was for before the last', async () => {
  const { cwd, flags } = short()
  const { code, stdout } = await lowrank(['demo', '--json', ...flags], { cwd })
  expect(code).toBe(0)
  const events = jsonLines(stdout) as { event: string; [key: string]: unknown }[]
  expect(events.map(({ event }) => event)).toEqual(
    'start plan memory eval step step memory eval demo done'.split(' '),
  )
  const demo = events.at(-2) as unknown as {
    before: { exact_match: number }
    samples: { prompt: string; expected: string; before: string; after: string }[]
  }
  expect(demo.before.exact_match).toBe(0)
  const asked = items.slice(0, 3).map((line) => JSON.parse(line).messages)
  expect(demo.samples.map(({ prompt, expected }) => [prompt, expected])).toEqual(
    asked.map(([question, answer]) => [question.content, answer.content]),
  )
  for (const { expected, before } of demo.samples) expect(before).not.toBe(expected)
  const files = [
    'README.md',
    'adapter_config.json',
    'adapter_model.safetensors',
    'config.yaml',
    'lowrank.json',
    'metrics.jsonl',
    'report.html',
    'run.json',
  ]
  expect(readdirSync(join(cwd, 'lowrank-demo')).sort()).toEqual(files)
})

test('tells a story, and commands that work', async () => {
  const { cwd, flags } = short()
  const { code, stdout, stderr } = await lowrank(['demo', '--output', 'it', ...flags], { cwd })
  expect(code).toBe(0)
  expect(stderr).toMatch(/^Planned memory\nweights/m)
  expect(stderr).toMatch(/^Before: 0\.00 % of 5 held-out notes/m)
  expect(stderr).toMatch(/^After: /m)
  expect(stderr).toMatch(/^together +\S+ MiB +\S+ MiB$/m)
  expect(stdout).toMatch(/Exact match on held-out notes: 0\.00 % before, /)
  const commands = [...stdout.matchAll(/^ {2}npx lowrank (.*)$/gm)].map(([, words = '']) => words.split(' '))
  const verbs = commands.map(([verb]) => verb)
  expect(verbs).toEqual(['chat', 'chat', 'inspect', 'eval', 'train', 'train'])
  const found = (verb: string) => commands.find(([first]) => first === verb) as string[]
  for (const [verb, input] of [['chat', 'Hello'], ['inspect'], ['eval']] as const)
    expect(await lowrank(found(verb), { cwd, ...(input ? { input } : {}) })).toMatchObject({ code: 0 })
  writeFileSync(join(cwd, 'yours.jsonl'), items.slice(5, 9).join('\n'))
  expect(await lowrank([...found('train'), '--set', 'max_steps=1'], { cwd })).toMatchObject({ code: 0 })
  expect(existsSync(join(cwd, 'yours', 'adapter_config.json'))).toBe(true)
}, 120_000)

test('leaves a folder alone that exists, unless forced', async () => {
  const { cwd, flags } = short(1)
  mkdirSync(join(cwd, 'lowrank-demo'))
  const { code, stderr } = await lowrank(['demo', ...flags], { cwd })
  expect(code).toBe(2)
  expect(stderr).toContain(
    'error: lowrank-demo exists; name another folder with --output, or write into it with --force.\n',
  )
  expect(await lowrank(['demo', '--force', ...flags], { cwd })).toMatchObject({ code: 0 })
})

test('interrupted, it saves a checkpoint and says how train goes on', async () => {
  const { cwd, flags } = short(200)
  const { code, stderr } = await lowrank(['demo', ...flags], {
    cwd,
    watch: signalWhen('SIGINT', ({ stderr }) => /step \d+\/200/.test(stderr)),
  })
  expect(code).toBe(130)
  expect(stderr).toMatch(
    /is saved\. Resume with:\n {2}npx lowrank train lowrank-demo[\\/]config\.yaml --resume\n$/,
  )
})
