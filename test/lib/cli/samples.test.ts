import { existsSync } from 'node:fs'
import { expect, test } from 'vitest'
import { answerLines, repeatCommand, sampleLines, whyNone } from '../../../lib/cli/samples.js'
import { shellWord } from '../../../lib/core/system.js'
import type { PromptFormat } from '../../../lib/formats/prompt-format.js'
import type { Samples } from '../../../lib/train/answers/samples.js'
import { project } from '../../e2e/project.js'
import { sweepTest } from '../../sweep.js'
import { lowrank, signalWhen } from './lowrank.js'

const jsonLines = (text: string): unknown[] =>
  text
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line))

const row = { prompt: 'Sky?', system: null, expected: 'Blue.', base: 'A sky.', tuned: 'Blue.', cut: false }
const samples = (...rows: Partial<Samples['rows'][number]>[]): Samples => ({
  rows: rows.map((one) => ({ ...row, ...one })),
  heldOut: true,
  late: false,
  system: null,
})

test('rows fit the terminal, and no word is broken', () => {
  const base = 'many words of one length and more '.repeat(40)
  for (const columns of [60, 80, 120]) {
    const lines = sampleLines(samples({ base }, {}), columns)
    expect(lines[0]).toBe('How 2 held-out rows are answered')
    expect(lines.every((line) => line.length <= columns)).toBe(true)
    const words = lines.flatMap((line) => line.trim().split(/\s+/))
    for (const word of words.slice(words.indexOf('base') + 1, words.indexOf('…')))
      expect(base).toContain(`${word} `)
  }
  expect(sampleLines(samples(), 80)).toEqual([])
})

test('rows of a classifier show their class beside the predicted one', () => {
  const classified = [
    { text: 'Please refund the kettle.', expected: 'refund', predicted: 'refund', probability: 0.943 },
    { text: 'It broke.', expected: 'defect', predicted: 'refund', probability: 0.5 },
  ]
  expect(sampleLines({ ...samples(), classified }, 80)).toEqual([
    'How 2 held-out rows are classified',
    '',
    '  text      Please refund the kettle.',
    '  class     refund',
    '  predicted refund, at 94 %',
    '',
    '  text      It broke.',
    '  class     defect',
    '  predicted refund, at 50 %, which is wrong',
  ])
})

test('answers at evaluations take a line each, at any width', () => {
  const prompt = 'Which color has the sky on a day in the month of May?'
  const answers = [
    { prompt, system: null, expected: 'Blue.', answer: ' Blue.\n', cut: false },
    {
      prompt: 'Sea?\u001b[31m',
      system: null,
      expected: 'Blue.',
      answer: `It\nis ${'x'.repeat(200)}`,
      cut: true,
    },
  ]
  for (const columns of [30, 44, 80, 120]) {
    const lines = answerLines(answers, columns, true)
    expect(lines.every((line) => line.length <= Math.max(36, columns) && !/\p{Cc}/u.test(line))).toBe(true)
  }
  expect(answerLines(answers, 80, true)[0]).toBe('    ✓ Which color has the sky… → Blue.')
  expect(answerLines(answers, 44, false)).toEqual([
    '    + Which ... -> Blue.',
    '    - Sea?[31m -> It is xxxxxxxxxxxxxxx...',
  ])
})

test('reasoning is left out of answers, unless nothing follows it', () => {
  const row = { prompt: 'Sky?', system: null, expected: 'Blue.', cut: false }
  const answers = ['<think>A sky.</think>\n\nBlue.', '<think>A sky.'].map((answer) => ({ ...row, answer }))
  expect(answerLines(answers, 80, true)).toEqual(['    ✓ Sky? → Blue.', '    ✗ Sky? → <think>A sky.'])
})

test('a word that is longer than a line, and a gap before it, stay in their column', () => {
  const [, , , , base, more, tuned] = sampleLines(
    samples({ base: `so is  ${'w'.repeat(60)}`, tuned: 'a\n  b' }),
    60,
  )
  expect(base).toBe(`  base      so is  ${'w'.repeat(41)}`)
  expect(more).toBe(`            ${'w'.repeat(19)}`)
  expect(tuned).toBe('  tuned     a')
})

test('time that ran out before the first answer is told', () => {
  expect(whyNone({ ...samples(), late: true })).toBe('none was answered within half a minute')
  expect(whyNone(samples())).toBeUndefined()
  expect(whyNone({ ...samples({}), late: true })).toBeUndefined()
})

test('the command is one that a shell takes', () => {
  const command = (one: object, system: string | null = null) =>
    repeatCommand({ ...samples(one), system }, null, 'run.yaml', (word) => shellWord(word, 'linux'))
  expect(command({})).toBe("npx lowrank generate run.yaml --prompt 'Sky?'")
  expect(command({ form: 'raw' })).toBe("npx lowrank generate run.yaml --raw --prompt 'Sky?'")
  expect(command({ prompt: "-it's\n2" })).toBe("npx lowrank generate run.yaml --prompt='-it'\\''s\n2'")
  expect(command({ cut: true, system: 'Be brief.' })).toBe(
    "npx lowrank generate run.yaml --system 'Be brief.' --max-new-tokens 64 --prompt 'Sky?'",
  )
  expect(command({ system: 'Be brief.' }, 'Be brief.')).toBe("npx lowrank generate run.yaml --prompt 'Sky?'")
  expect(command({ tools: ['stock'] })).toBe("npx lowrank generate run.yaml --tools FILE --prompt 'Sky?'")
  expect(repeatCommand(samples(), null, 'run.yaml', shellWord)).toBeNull()
})

test('no command repeats a raw prompt around which generation puts the texts of the adapter', () => {
  const raw: PromptFormat = { form: 'raw', template: null, system: null, prefix: '', suffix: '', stop: [] }
  const command = (suffix: string, ...rows: object[]) =>
    repeatCommand(samples(...rows), { ...raw, suffix }, 'run.yaml', (word) => shellWord(word, 'linux'))
  expect(command('', { form: 'raw' })).toBe("npx lowrank generate run.yaml --raw --prompt 'Sky?'")
  expect(command('\n', { form: 'raw' })).toBeNull()
  expect(command('\n', { form: 'raw', prompt: 'Sea?' }, {})).toBe(
    "npx lowrank generate run.yaml --prompt 'Sky?'",
  )
})

sweepTest('Ctrl-C while rows are asked leaves them out, and the run is as saved as without it', async () => {
  const home = project({ max_steps: 1, sample_rows: 1000 }, 400)
  const { code, stdout, stderr } = await lowrank(['train', home.config, '--json'], {
    watch: signalWhen('SIGINT', (soFar) => soFar.stderr.includes('Asking sample rows')),
  })
  expect(code).toBe(0)
  expect(stderr).toContain('Skipping the sample rows; the adapter is saved.')
  expect(stderr).not.toContain('saving a checkpoint')
  expect(stderr).toContain(
    `no rows are shown: stopped on request. The adapter is saved in ${home.at('out')}.`,
  )
  const events = jsonLines(stdout) as { event: string }[]
  expect(events.map(({ event }) => event)).not.toContain('samples')
  expect(events.at(-1)?.event).toBe('done')
  expect(existsSync(home.at('out', 'adapter_model.safetensors'))).toBe(true)
  expect(existsSync(home.at('out', '.lowrank.lock'))).toBe(false)
})

sweepTest('train asks rows at its end, and the command gives the same text', async () => {
  const home = project()
  const { code, stdout } = await lowrank(['train', home.config, '--json', '--set', 'max_steps=2'])
  expect(code).toBe(0)
  const events = jsonLines(stdout) as { event: string }[]
  expect(events.slice(-2).map(({ event }) => event)).toEqual(['samples', 'done'])
  const told = events.at(-2) as unknown as { rows: Samples['rows']; command: string; held_out: boolean }
  const [first] = told.rows
  expect(told.command).toContain('npx lowrank generate ')
  const shortest = [...told.rows].sort((a, b) => a.prompt.length - b.prompt.length)[0]
  const flags = shortest?.cut ? ['--max-new-tokens', '64'] : []
  const again = await lowrank([
    'generate',
    home.config,
    ...flags,
    '--prompt',
    String(shortest?.prompt),
    '--json',
  ])
  expect((jsonLines(again.stdout) as { text: string }[])[0]?.text).toBe(shortest?.tuned)
  expect(first?.expected).not.toBe('')
  const none = await lowrank([
    'train',
    home.config,
    '--json',
    '--set',
    'max_steps=1',
    '--set',
    'sample_rows=0',
  ])
  expect((jsonLines(none.stdout) as { event: string }[]).map(({ event }) => event)).not.toContain('samples')
})
