/**
 * Screens of a run on terminals of several widths, compared with screens/, in which numbers that differ from run to run
 * are always the same. `npx vitest run test/e2e/terminal.test.ts -u` draws them anew.
 */
import { writeFileSync } from 'node:fs'
import { describe, expect, test } from 'vitest'
import { sweepTest, swept } from '../sweep.js'
import { project } from './project.js'
import { Terminal } from './terminal.js'

const RUN = {
  max_steps: 12,
  sample_rows: 0,
  gradient_accumulation_steps: 4,
  eval_dataset: 'dev.jsonl',
  eval_steps: 2,
  save_steps: 4,
}

/** From the head of the run on. */
function run(screen: string): string {
  return screen.slice(Math.max(0, screen.search(/^out {3}qlora/m)))
}

/** Without the head, which a resize breaks where the lengths of its numbers have it. */
function below(screen: string): string {
  return screen.slice(screen.search(/^ +step/m))
}

/** Checks that the lines below the evaluation and the checkpoint of a step are drawn to their end. */
function drawn(step: number, columns: number): (screen: string) => boolean {
  const stays = new RegExp(`^ +step +${step} +held-out loss .* saved.*\\n\\n`, 'm')
  return (screen) => {
    const live = run(screen).split(stays)[1]?.split('\n')
    return live?.length === 2 && live.every((line) => line.length === columns)
  }
}

/** Values that differ between runs and machines have the same look in all; what is at the right end stays there. */
function masked(screen: string, columns: number): string {
  return screen
    .split('\n')
    .map((line) => {
      const text = line
        .replace(/(\d+ (h|min) )?\d+ (s|min)\b(?= left|,)/g, '12 s')
        .replace(/[\d.]+ tokens/g, '1234 tokens')
        .replace(/\d+\.\d+ MiB/g, '98.7 MiB')
        .replace(/\d+\.\d+e-?\d+/g, '1.2e-3')
        .replace(/\d+\.\d+(?!.?e|\d* MiB)/g, '1.23')
        .replace(/[↓↑]/g, '↓')
        .replace(/[-+](?=1\.23)/g, '-')
        .replace(/(?<=(loss|norm|1\.23) )[▁-█]+(?= 1\.23)/g, (curve) => '▄'.repeat(curve.length))
        .replace(/(?<=(loss|norm|1\.23) )[_.=#-]+(?= 1\.23)/g, (curve) => '_'.repeat(curve.length))
      if (line.length !== columns) return text
      const gap = (text.match(/ {2,}/g) ?? []).reduce(
        (most, run) => (run.length > most.length ? run : most),
        '',
      )
      return text.replace(gap, ' '.repeat(Math.max(0, columns - text.length + gap.length)))
    })
    .join('\n')
}

function framed(title: string, screen: string, columns: number): string {
  const edge = '─'.repeat(columns)
  const rows = masked(screen, columns).split('\n')
  return [title, `┌${edge}┐`, ...rows.map((row) => `│${row.padEnd(columns)}│`), `└${edge}┘`, ''].join('\n')
}

const WIDTHS = [
  { columns: 80, resized: 60 },
  { columns: 60, resized: 120 },
  { columns: 120, resized: 80 },
]

describe.each(swept(WIDTHS, 1))('on $columns columns', ({ columns, resized }) => {
  const start = (env: NodeJS.ProcessEnv = {}) =>
    new Terminal(['train', 'run.yaml'], { columns, cwd: project(RUN).folder, env })
  const expected = (name: string) => `screens/${name}-${columns}.txt`

  test('two lines are drawn anew, evaluations and checkpoints stay, and the end says what to type next', async () => {
    const terminal = start()
    const during = await terminal.until(drawn(4, columns))
    expect(await terminal.ended).toBe(0)
    const frames = [
      framed('During the run', run(during), columns),
      framed('At its end', run(await terminal.prompt()), columns),
    ]
    await expect(frames.join('\n')).toMatchFileSnapshot(expected('train'))
  })

  sweepTest('a resize and Ctrl-C leave nothing behind', async () => {
    const terminal = start()
    await terminal.until((screen) => /held-out loss[\s\S]*\n {2}loss .* /.test(screen))
    terminal.resize(resized)
    const after = await terminal.until(drawn(4, resized))
    terminal.type('\u0003')
    expect(await terminal.ended).toBe(130)
    const stopped = (await terminal.prompt()).replace(/(?<=step +|checkpoint-)[5-9](?! +held)/g, 'N')
    const frames = [
      framed(`Now ${resized} columns`, below(after), resized),
      framed('After Ctrl-C', below(stopped), resized),
    ]
    await expect(frames.join('\n')).toMatchFileSnapshot(expected('resized'))
  })

  test.each(swept([{ TERM: 'linux' }, { LANG: 'C' }], 1))(
    'without Unicode, as with %o, ASCII is in the same places',
    async (env) => {
      const terminal = start(env)
      const during = await terminal.until(drawn(4, columns))
      terminal.type('\u0003')
      await terminal.ended
      // biome-ignore lint/suspicious/noControlCharactersInRegex: all of ASCII is meant
      expect(run(terminal.screen())).toMatch(/^[\x00-\x7f]*$/)
      await expect(framed('During the run', run(during), columns)).toMatchFileSnapshot(expected('ascii'))
    },
  )
})

sweepTest('a second Ctrl-C leaves the prompt at the start of an empty line', async () => {
  const { folder } = project(
    { ...RUN, per_device_train_batch_size: 64, gradient_accumulation_steps: 64 },
    8000,
  )
  const terminal = new Terminal(['train', 'run.yaml'], { columns: 80, cwd: folder })
  await terminal.until((screen) => screen.includes('First step'))
  terminal.type('\u0003')
  await terminal.until((screen) => screen.includes('Finishing this step'))
  terminal.type('\u0003')
  expect(await terminal.ended).not.toBe(0)
  expect((await terminal.prompt()).split('\n').slice(-2)).toEqual(['once.', '$ '])
})

const NARROW = [
  { args: [], breaks: 0 },
  { args: ['--help'], breaks: 0 },
  { args: ['export', '--help'], breaks: 4 },
  { args: ['strategies'], breaks: 0 },
  { args: ['train', 'run.yaml', '--set', 'lerning_rate=1'], breaks: 0 },
  { args: ['plan', 'run.yaml', '--fit', '1KiB'], breaks: 0 },
]

test.each(swept(NARROW, 3))(
  'of lowrank $args, 50 columns break nothing but commands to copy',
  async ({ args, breaks }) => {
    const terminal = new Terminal(args, { columns: 50, cwd: project().folder })
    await terminal.ended
    const broken = terminal.broken()
    expect(broken.filter((row) => !/^ +\$ lowrank /.test(row))).toEqual([])
    expect(broken).toHaveLength(breaks)
    expect(terminal.screen()).not.toBe('')
  },
)

test.each(swept([{ sample_rows: 1, eval_dataset: 'dev.jsonl' }, { sample_rows: 1 }, { sample_rows: 0 }], 1))(
  'one empty line is between the parts of the end, with %j',
  async (settings) => {
    const { config, folder } = project({ max_steps: 2, ...settings })
    const terminal = new Terminal(['train', config], { columns: 80, rows: 40, cwd: folder })
    expect(await terminal.ended).toBe(0)
    const screen = terminal.screen()
    expect(screen.includes('To repeat this answer:')).toBe(settings.sample_rows > 0)
    expect(screen).not.toContain('\n\n\n')
    expect(screen).toMatch(settings.sample_rows > 0 ? /\n\nHow one of / : /\n\n {2}loss /)
    expect(screen).toMatch(/\n\n {2}loss /)
  },
)

test('where a table of ways to fit is too wide, each is a list', async () => {
  const terminal = new Terminal(['plan', 'run.yaml', '--fit', '1TiB'], {
    ...{ columns: 50, rows: 60, cwd: project().folder },
  })
  expect(await terminal.ended).toBe(0)
  expect(terminal.screen()).toMatch(
    /^2 x 96\n {2}accumulated +1\n {2}checkpointing +no\n {2}peak +.* MiB\n {2}compute +1\.00 x$/m,
  )
  expect(terminal.broken()).toEqual([])
})

sweepTest('answers of a chat are wrapped between words as they come', { timeout: 180_000 }, async () => {
  const answer = 'The river runs past an old mill. 川は古い水車を過ぎる。 Onwards!'
  const { config, folder, at } = project({
    strategy: { name: 'lora', r: 8, lora_alpha: 16 },
    max_steps: 90,
    lr_scheduler_type: 'constant',
    max_seq_length: 128,
    sample_rows: 0,
  })
  const messages = [
    { role: 'user', content: 'a' },
    { role: 'assistant', content: answer },
  ]
  writeFileSync(at('train.jsonl'), `${JSON.stringify({ messages })}\n`.repeat(8))
  const training = new Terminal(['train', config], { columns: 80, cwd: folder })
  expect(await training.ended).toBe(0)
  const terminal = new Terminal(['chat', config], { columns: 20, rows: 24, cwd: folder })
  await terminal.until((screen) => /^> *$/m.test(screen))
  terminal.type('a\n')
  await terminal.until((screen) => /Onwards!\n> *$/.test(screen))
  terminal.type('/exit\n')
  expect(await terminal.ended).toBe(0)
  const [, said = ''] = terminal.screen().split('> a\n')
  expect(said).toBe('The river runs past\nan old mill. 川は古\nい水車を過ぎる。\nOnwards!\n> /exit')
  // The name of the folder has no place to break.
  expect(terminal.broken().filter((row) => !row.includes('/'))).toEqual([])
})
