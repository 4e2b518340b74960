/** `lowrank migrate` in short, on the model of the demo: its events and files, how it goes on, and what it refuses. */
import { existsSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { expect, test } from 'vitest'
import type { Printed } from '../../../lib/cli/schemas.js'
import { scratchFolder } from '../scratch.js'
import { type Ended, lowrank, printed, signalWhen } from './lowrank.js'

const root = fileURLToPath(new URL('../../../', import.meta.url))
const base = join(root, 'demo/base')
const notes = readFileSync(join(root, 'demo/train.jsonl'), 'utf8').trim().split('\n')
/** A row that would be a script on the page. */
const SCRIPT = '<script>document.title = "x"</script>'
const hostile = JSON.stringify({
  messages: [
    { role: 'user', content: `${SCRIPT} & "quoted"` },
    { role: 'assistant', content: SCRIPT },
  ],
})

type Line = Printed<'migrate'>
type Of<Name extends Line['event']> = Extract<Line, { event: Name }>

/** A folder with a few rows, and the arguments of a migration that is over soon. */
function short(...rows: string[]) {
  const cwd = scratchFolder()
  writeFileSync(join(cwd, 'orders.jsonl'), `${[...rows, ...notes.slice(0, 24)].join('\n')}\n`)
  const args = ['migrate', 'orders.jsonl', '--model', base, '--held-out', '4', '--set', 'max_steps=2']
  return { cwd, args, at: (...names: string[]) => join(cwd, 'lowrank-migrate', ...names) }
}

const eventOf = <Name extends Line['event']>(ended: Ended, name: Name) =>
  printed<'migrate'>(ended).find((line): line is Of<Name> => line.event === name)
const rowsIn = (path: string) => readFileSync(path, 'utf8').trim().split('\n')

test('splits, plans, trains, asks, and ends with what to change; then again with old answers, without training', async () => {
  const { cwd, args, at } = short()
  const first = await lowrank([...args, '--json'], { cwd })
  expect(first.code, first.stderr).toBe(0)
  const names = printed<'migrate'>(first).map(({ event }) => event)
  expect(names.slice(0, 2)).toEqual(['split', 'planned'])
  expect(names.slice(-2)).toEqual(['done', 'migrated'])
  expect(eventOf(first, 'split')).toMatchObject({ rows: 24, repeated: 0, train: 20, held_out: 4 })
  expect(rowsIn(at('train.jsonl')).filter((row) => rowsIn(at('held-out.jsonl')).includes(row))).toEqual([])
  const migrated = eventOf(first, 'migrated') as Of<'migrated'>
  expect(migrated.change).toEqual([
    `npx lowrank serve ${join('lowrank-migrate', 'orders', 'config.yaml')} --port 8000`,
    "baseURL: 'http://127.0.0.1:8000/v1',",
    'apiKey: process.env.LOWRANK_TOKEN, // the command prints it',
    "model: 'orders',",
  ])
  expect(migrated.models.map(({ name, answered }) => [name, answered])).toEqual([
    ['base', 4],
    ['tuned', 4],
  ])

  const requests = rowsIn(at('requests.jsonl')).map((line) => JSON.parse(line))
  const expected = rowsIn(at('held-out.jsonl')).map((line) => JSON.parse(line).messages)
  expect(requests.map(({ body }) => body.messages)).toEqual(expected.map(([question]) => [question]))
  // The old model is right but for the first row, and its answers come in another order.
  const answers = requests.map(({ custom_id }, index) => {
    const content = index === 0 ? 'Who knows.' : expected[index][1].content
    return JSON.stringify({ custom_id, response: { body: { choices: [{ message: { content } }] } } })
  })
  writeFileSync(join(cwd, 'old.jsonl'), `${answers.reverse().join('\n')}\n`)
  const adapter = statSync(at('orders', 'adapter_model.safetensors')).mtimeMs
  const again = await lowrank([...args, '--answers', 'old.jsonl', '--json'], { cwd })
  expect(again.code, again.stderr).toBe(0)
  expect(printed<'migrate'>(again).map(({ event }) => event)).toEqual(['split', 'planned', 'migrated'])
  expect(statSync(at('orders', 'adapter_model.safetensors')).mtimeMs).toBe(adapter)
  const { models, pairs } = eventOf(again, 'migrated') as Of<'migrated'>
  expect(models[2]).toMatchObject({ name: 'old', answered: 4, exact: { right: 3 } })
  // Two steps teach nothing, so p is 2 · 1 / 2³.
  expect(models[1]).toMatchObject({ exact: { right: 0 } })
  expect(pairs.map(({ first, second, exact }) => [first, second, exact])).toEqual([
    ['base', 'tuned', { only_first: 0, only_second: 0, p: 1 }],
    ['base', 'old', { only_first: 0, only_second: 3, p: expect.closeTo(0.25, 12) }],
    ['tuned', 'old', { only_first: 0, only_second: 3, p: expect.closeTo(0.25, 12) }],
  ])
  const results = JSON.parse(readFileSync(at('results.json'), 'utf8'))
  expect(results.rows.map(({ id }: { id: string }) => id)).toEqual(requests.map(({ custom_id }) => custom_id))
  expect(results.rows[0].answers.map(({ exact }: { exact: boolean }) => exact)).toEqual([false, false, false])
})

test('the page has the text of rows as text, and loads nothing', async () => {
  const { cwd, args, at } = short(hostile)
  // Everything but the hostile row has other questions, so that some seed holds it out.
  let held = false
  for (let seed = 1; !held; seed++) {
    const prepared = await lowrank([...args, '--prepare', '--force', '--seed', String(seed)], { cwd })
    expect(prepared.code, prepared.stderr).toBe(0)
    held = readFileSync(at('held-out.jsonl'), 'utf8').includes('<script>')
    if (!held) continue
    const ended = await lowrank([...args, '--seed', String(seed)], { cwd })
    expect(ended.code, ended.stderr).toBe(0)
    expect(ended.stdout).toMatch(/^Tuned model +4 +0 % \(0 to \d+\)/m)
    expect(ended.stdout).toMatch(/change three lines of your code:\n {2}npx lowrank serve/)
  }
  const page = readFileSync(at('report.html'), 'utf8')
  expect(page).toContain('&lt;script&gt;document.title')
  expect(page).not.toMatch(/<script/)
  expect(page).toMatch(
    /Content-Security-Policy" content="default-src 'none'; style-src 'sha256-[^;]*; img-src data:/,
  )
  expect(page).not.toMatch(/(?:src|href)="(?!#|data:)/)
  expect(page).not.toMatch(/url\(|@import/)
})

test('a call that was stopped goes on with the saved answers, and one that was stopped in training, with its checkpoint', async () => {
  const { cwd, args, at } = short()
  const steps = [...args.slice(0, -1), 'max_steps=40', '--set', 'save_steps=5']
  const stopped = await lowrank([...steps, '--json'], {
    cwd,
    watch: signalWhen('SIGKILL', ({ stdout }) => stdout.includes('"step":12,')),
  })
  expect(stopped.code).not.toBe(0)
  expect(existsSync(at('orders', 'adapter_model.safetensors'))).toBe(false)
  const interrupted = await lowrank([...steps, '--json'], {
    cwd,
    watch: signalWhen('SIGINT', ({ stdout }) => stdout.includes('"step":20,')),
  })
  expect(interrupted.code).toBe(130)
  const first = printed<'train'>(interrupted).find((line) => line.event === 'step')
  expect(first).toMatchObject({ step: 11 })
  expect(interrupted.stderr).toContain('Run the same command again to go on.')
  expect(interrupted.stderr).not.toContain('--resume')
  const whole = await lowrank([...steps, '--json'], { cwd })
  expect(whole.code, whole.stderr).toBe(0)
  // A torn answer is asked again, and the others are not.
  const lines = rowsIn(at('answers.jsonl'))
  expect(lines).toHaveLength(8)
  const marked = lines.slice(0, 2).map((line) => JSON.stringify({ ...JSON.parse(line), text: 'kept' }))
  writeFileSync(at('answers.jsonl'), `${marked.join('\n')}\n${lines[2]?.slice(0, 20)}`)
  const again = await lowrank([...steps, '--json'], { cwd })
  expect(again.code, again.stderr).toBe(0)
  const kept = rowsIn(at('answers.jsonl')).map((line) => JSON.parse(line))
  expect(kept.map(({ row, by }) => `${row} ${by}`)).toEqual(
    lines.map((line) => JSON.parse(line)).map(({ row, by }) => `${row} ${by}`),
  )
  expect(kept.map(({ text }) => text === 'kept')).toEqual([true, true, ...Array(6).fill(false)])
  expect(kept.slice(2).map(({ text }) => text)).toEqual(lines.slice(2).map((line) => JSON.parse(line).text))
})

test('other settings, other files, and flags that exclude each other are refused', async () => {
  const { cwd, args, at } = short()
  const prepare = [...args, '--prepare']
  const prepared = await lowrank(prepare, { cwd })
  expect(prepared.code, prepared.stderr).toBe(0)
  expect(prepared.stdout).toContain('requests.jsonl')
  expect(existsSync(at('orders'))).toBe(false)
  expect((await lowrank(prepare, { cwd })).code).toBe(0)
  for (const [changed, more] of [
    ['--seed', ['--seed', '7']],
    ['--held-out', ['--held-out', '3']],
    ['--strategy', ['--strategy', 'dora']],
  ] as const) {
    const ended = await lowrank([...prepare, ...more], { cwd })
    expect(ended.code).toBe(2)
    expect(ended.stderr).toContain(`lowrank-migrate has a migration with another ${changed}.`)
  }
  writeFileSync(join(cwd, 'orders.jsonl'), `${notes.slice(30, 50).join('\n')}\n`)
  expect((await lowrank(prepare, { cwd })).stderr).toContain('another content of its data')
  const forced = await lowrank([...prepare, '--force', '--strategy', 'dora', '--json'], { cwd })
  expect(forced.code, forced.stderr).toBe(0)
  expect(eventOf(forced, 'split')).toMatchObject({ rows: 20 })
  expect(forced.stderr).toContain('Plan: dora on')
  const taken = await lowrank([...prepare, '--output', '.'], { cwd })
  expect(taken.code).toBe(2)
  expect(taken.stderr).toContain('exists and has no migration')
  const both = await lowrank([...prepare, '--force', '--strategy', 'dora', '--config', 'run.yaml'], { cwd })
  expect(both.stderr).toContain('pass either --config or --strategy')
})

test('a config of one’s own trains on the split rows', async () => {
  const { cwd, at } = short()
  const config = {
    ...{ model: base, dataset: 'orders.jsonl', output_dir: 'elsewhere', max_steps: 1 },
    strategy: { name: 'lora', r: 3 },
  }
  writeFileSync(join(cwd, 'mine.yaml'), JSON.stringify(config))
  const args = ['migrate', 'orders.jsonl', '--config', 'mine.yaml', '--held-out', '2', '--json']
  const ended = await lowrank(args, { cwd })
  expect(ended.code, ended.stderr).toBe(0)
  const adapter = JSON.parse(readFileSync(at('orders', 'adapter_config.json'), 'utf8'))
  expect(adapter.r).toBe(3)
  expect(existsSync(join(cwd, 'elsewhere'))).toBe(false)
  expect(readFileSync(at('orders', 'config.yaml'), 'utf8')).toContain(at('train.jsonl'))
})

test('preference rows train, and rows with tools are refused by name where the template knows none', async () => {
  const { cwd, args } = short()
  const pairs = Array.from({ length: 16 }, (_, i) =>
    JSON.stringify({
      input: { messages: [{ role: 'user', content: `What is ${i}?` }] },
      preferred_output: [{ role: 'assistant', content: `It is ${i}.` }],
      non_preferred_output: [{ role: 'assistant', content: 'Who knows.' }],
    }),
  )
  writeFileSync(join(cwd, 'orders.jsonl'), `${pairs.join('\n')}\n`)
  const ended = await lowrank([...args, '--json'], { cwd })
  expect(ended.code, ended.stderr).toBe(0)
  expect(readFileSync(join(cwd, 'lowrank-migrate', 'run.yaml'), 'utf8')).toMatch(/^task: dpo /m)
  expect(eventOf(ended, 'migrated')?.models[1]).toMatchObject({ answered: 4 })
  const tools = [{ type: 'function', function: { name: 'look_up', parameters: {} } }]
  const calling = notes.slice(0, 8).map((line) => JSON.stringify({ ...JSON.parse(line), tools }))
  writeFileSync(join(cwd, 'orders.jsonl'), `${calling.join('\n')}\n`)
  const refused = await lowrank([...args, '--force'], { cwd })
  expect(refused.code).toBe(1)
  expect(refused.stderr).toMatch(/tools/)
  expect(existsSync(join(cwd, 'lowrank-migrate', 'orders'))).toBe(false)
})

/** The notes as prompts, with the letter that an answer should have. */
function prompts(grader: object, more: Record<string, unknown> = { letter: 'e' }) {
  const cwd = scratchFolder()
  const rows = notes.slice(0, 24).map((line) => {
    const { messages } = JSON.parse(line) as { messages: object[] }
    return JSON.stringify({ messages: messages.slice(0, -1), ...more })
  })
  writeFileSync(join(cwd, 'prompts.jsonl'), `${rows.join('\n')}\n`)
  writeFileSync(join(cwd, 'grader.json'), JSON.stringify(grader))
  const sizes = ['max_steps=2', 'num_generations=2', 'max_completion_length=8']
  const set = sizes.flatMap((change) => ['--set', change])
  const args = ['migrate', 'prompts.jsonl', '--model', base, '--held-out', '4', ...set]
  return { cwd, args, at: (...names: string[]) => join(cwd, 'lowrank-migrate', ...names) }
}

const LETTER = {
  ...{ type: 'string_check', name: 'letter', operation: 'like' },
  ...{ input: '{{sample.output_text}}', reference: '{{item.letter}}' },
}

test('rows of reinforcement train by the scores of a grader, by which the models are compared', async () => {
  const { cwd, args, at } = prompts(LETTER)
  const graded = [...args, '--grader', 'grader.json', '--json']
  const first = await lowrank(graded, { cwd })
  expect(first.code, first.stderr).toBe(0)
  expect(printed<'migrate'>(first).at(-1)?.event).toBe('graded')
  const steps = printed<'migrate'>(first).filter(({ event }) => event === 'step')
  expect(steps.map((step) => 'reward' in step && typeof step.reward)).toEqual(['number', 'number'])

  const requests = rowsIn(at('requests.jsonl')).map((line) => JSON.parse(line))
  expect(requests.map(({ body }) => body.messages.at(-1).role)).toEqual(Array(4).fill('user'))
  // The old model has the letter in all answers but the last.
  const answers = requests.map(({ custom_id: id }, index) =>
    JSON.stringify({ id, answer: index < 3 ? 'e' : 'x' }),
  )
  writeFileSync(join(cwd, 'old.jsonl'), `${answers.join('\n')}\n`)
  const again = await lowrank([...graded, '--answers', 'old.jsonl'], { cwd })
  expect(again.code, again.stderr).toBe(0)
  expect(printed<'migrate'>(again).map(({ event }) => event)).toEqual(['split', 'planned', 'graded'])
  const { models, pairs } = eventOf(again, 'graded') as Of<'graded'>
  expect(models[2]).toMatchObject({ name: 'old', answered: 4, mean: 0.75 })
  expect(pairs.map(({ first, second, rows }) => [first, second, rows])).toEqual([
    ['base', 'tuned', 4],
    ['base', 'old', 4],
    ['tuned', 'old', 4],
  ])
  const results = JSON.parse(readFileSync(at('results.json'), 'utf8'))
  for (const { answers } of results.rows)
    for (const { text, score } of answers) expect(score).toBe(Number(text.includes('e')))
  const means = models.map(({ mean }) => mean)
  expect(pairs[1]?.mean).toBeCloseTo((means[2] as number) - (means[0] as number), 12)
  expect(readFileSync(at('report.html'), 'utf8')).toContain('paired t-test')
})

test('lowrank train runs the config of a migration with a grader, as the migration does', async () => {
  const { cwd, args, at } = prompts(LETTER)
  const graded = [...args, '--grader', 'grader.json', '--json']
  expect((await lowrank([...graded, '--prepare'], { cwd })).code).toBe(0)
  const config = ['train', 'run.yaml', '--json', ...args.slice(args.indexOf('--set'))]
  const trained = await lowrank([...config, '--set', 'output_dir=own'], { cwd: at() })
  expect(trained.code, trained.stderr).toBe(0)
  const migrated = await lowrank(graded, { cwd })
  const rewards = [trained, migrated].map((ended) =>
    printed<'train'>(ended).flatMap((line) => (line.event === 'step' ? [line.rewards, line.loss] : [])),
  )
  expect(rewards[0]).toHaveLength(4)
  expect(rewards[1]).toEqual(rewards[0])
  // The files of the run name the grader.
  expect(readFileSync(at('own', 'config.yaml'), 'utf8')).toMatch(/reward_functions:\s.*grader\.json/)

  writeFileSync(at('grader.json'), JSON.stringify({ type: 'score_model' }))
  const refused = await lowrank([...config, '--set', 'output_dir=other'], { cwd: at() })
  expect(refused.stderr).toMatch(
    /error: reward_functions: \S+grader\.json: 'grader\.type' cannot be 'score_model'/,
  )
})

test('a grader that cannot be had, rows that lack what it looks at, and rows without one are refused by name', async () => {
  const refused = async ({ cwd, args }: ReturnType<typeof prompts>, ...more: string[]) =>
    (await lowrank([...args, '--prepare', ...more], { cwd })).stderr
  const grader = ['--grader', 'grader.json']
  expect(await refused(prompts({ type: 'score_model' }), ...grader)).toContain(
    "--grader grader.json: 'grader.type' cannot be 'score_model' here: no model grades here",
  )
  expect(await refused(prompts(LETTER, { word: 'e' }), ...grader)).toContain(
    'prompts.jsonl, line 1: there is no item.letter, which the grader looks at; add it to the row',
  )
  expect(await refused(prompts(LETTER))).toContain('give the grader of its answers with --grader FILE')
  const own = prompts(LETTER)
  writeFileSync(
    join(own.cwd, 'mine.yaml'),
    JSON.stringify({ model: base, dataset: 'd', strategy: { name: 'lora' } }),
  )
  const args = ['migrate', 'prompts.jsonl', '--config', 'mine.yaml']
  expect(await refused({ ...own, args }, ...grader)).toContain(
    'the task of the config is causal_lm, which asks no grader; use grpo, or leave out --grader.',
  )
})
