import { PassThrough } from 'node:stream'
import { stripVTControlCharacters } from 'node:util'
import { afterEach, beforeEach, expect, onTestFinished, test, vi } from 'vitest'
import { Output } from '../../../lib/cli/output.js'
import { StatusLine, shown } from '../../../lib/cli/progress.js'
import { TrainProgress } from '../../../lib/cli/train-progress.js'

beforeEach(() => void vi.useFakeTimers())
afterEach(() => {
  vi.restoreAllMocks()
  vi.useRealTimers()
})

const MIB = 1 << 20
const PLANNED = { peakBytes: 12 * MIB, pinnedBytes: 0, onCard: false }
/** A line that is drawn, drawn anew, and taken away. */
const first = (line: string) => `\r\u001b[J${line}\n`
const again = (line: string) => `\r\u001b[1A\u001b[J${line}\n`
const GONE = again('').trimEnd()
const step = (index: number) => ({
  step: index,
  totalSteps: 100,
  loss: 2 / index,
  gradNorm: 1 / index,
  learningRate: 2e-4,
  tokens: 512,
  tokensPerSecond: 1234.5,
  secondsLeft: 61,
  residentBytes: 90 * MIB,
})

/** Time passes while nothing else runs. */
function busy(ms: number): void {
  const now = performance.now()
  vi.spyOn(performance, 'now').mockReturnValue(now + ms)
}

function stderr(isTTY: boolean, columns = 200): { output: Output; text: () => string } {
  const stream = Object.assign(new PassThrough(), { isTTY, columns })
  let text = ''
  stream.on('data', (part) => {
    text += part
  })
  const output = new Output(false, process.stdout, stream as unknown as NodeJS.WriteStream)
  return { output, text: () => text }
}

test('a run that had no steps left says so in place of a curve', () => {
  const { output } = stderr(true)
  const progress = new TrainProgress(output, PLANNED, 70 * MIB)
  expect(progress.closing(30, 0, 90 * MIB, 80)).toBe(
    '  No steps were left: the checkpoint is of step 30, the last.',
  )
})

test('without a terminal each step has a line with its loss, and fast steps one a second', () => {
  const linesOf = (made: number, milliseconds: number) => {
    const { output, text } = stderr(false)
    const progress = new TrainProgress(output, PLANNED, 70 * MIB)
    progress.begin()
    for (let index = 1; index <= made; index++) {
      progress.update(step(index))
      vi.advanceTimersByTime(milliseconds)
    }
    progress.stop()
    return text().trimEnd().split('\n')
  }
  expect(linesOf(4, 6000)).toEqual([
    'step   1/100  loss 2.0000  1235 tokens/s  1 min 01 s left  memory 90.0 MiB (plan 12.0 MiB + Node 70.0 MiB)',
    'step   2/100  loss 1.0000  1235 tokens/s  1 min 01 s left  memory 90.0 MiB',
    'step   3/100  loss 0.6667  1235 tokens/s  1 min 01 s left  memory 90.0 MiB',
    'step   4/100  loss 0.5000  1235 tokens/s  1 min 01 s left  memory 90.0 MiB',
  ])
  const quick = linesOf(100, 300)
  expect(quick.slice(0, 3).map((line) => line.split('  loss')[0])).toEqual([
    'step   1/100',
    'step   5/100',
    'step   9/100',
  ])
  expect(quick).toHaveLength(26)
  expect(quick.at(-1)).toBe('step 100/100  loss 0.0200  1235 tokens/s  memory 90.0 MiB')
})

test('on a terminal a bar is drawn, and notes stay above it', () => {
  // Windows Terminal, where there is one; the old console has few characters.
  vi.stubEnv('WT_SESSION', 'yes')
  onTestFinished(() => void vi.unstubAllEnvs())
  const { output, text } = stderr(true)
  const progress = new TrainProgress(output, PLANNED, 70 * MIB)
  progress.update(step(50))
  progress.note('step 50: saved out/checkpoint-50')
  progress.stop()
  expect(text()).toMatch(
    / {2}step {2}50\/100 █{66}░{66} {2}50 % {3}1 min 01 s left +1235 tokens\/s {3}90\.0 MiB\n/,
  )
  expect(text()).toContain('\r\u001b[3A\u001b[Jstep 50: saved out/checkpoint-50\n')
  expect(text().endsWith('rate 2.0e-4\n\r\u001b[3A\u001b[J')).toBe(true)
})

test('an evaluation between two steps shows how far it is', () => {
  const piped = stderr(false)
  const lines = new TrainProgress(piped.output, PLANNED, 70 * MIB)
  lines.update(step(1))
  for (let batches = 1; batches <= 40; batches++) {
    vi.advanceTimersByTime(500)
    lines.evaluating({ batches, totalBatches: 40 })
  }
  expect(piped.text().split('\n').slice(1, -1)).toEqual(['evaluating 20/40', 'evaluating 40/40'])
  const terminal = stderr(true)
  const bar = new TrainProgress(terminal.output, PLANNED, 70 * MIB)
  bar.update(step(50))
  vi.advanceTimersByTime(500)
  bar.evaluating({ batches: 7, totalBatches: 40 })
  vi.advanceTimersByTime(500)
  bar.stop()
  expect(terminal.text()).toMatch(/gradient norm .* evaluating 7\/40\n/)
})

test('a step that samples answers shows how many there are, the first one too', () => {
  const piped = stderr(false)
  const lines = new TrainProgress(piped.output, PLANNED, 70 * MIB)
  lines.begin()
  const sample = () => {
    for (let answers = 1; answers <= 8; answers++) {
      vi.advanceTimersByTime(1500)
      lines.sampling({ answers, totalAnswers: 8 })
    }
  }
  sample()
  lines.update(step(1))
  vi.advanceTimersByTime(10_000)
  sample()
  lines.stop()
  expect(piped.text().split('\n')).toEqual([
    'First step: 1 of 8 answers, 2 s, about 10 s left',
    'First step: 7 of 8 answers, 12 s',
    expect.stringMatching(/^step {3}1\/100/),
    'step 2, 10 s so far',
    'step 2: 6 of 8 answers, 20 s so far',
    '',
  ])
  const terminal = stderr(true)
  const bar = new TrainProgress(terminal.output, PLANNED, 70 * MIB)
  bar.update(step(50))
  vi.advanceTimersByTime(500)
  bar.sampling({ answers: 7, totalAnswers: 64 })
  bar.stop()
  expect(terminal.text()).toMatch(/gradient norm .* 7 of 64 answers\n/)
})

test('a narrow terminal shows all of an evaluation, between words, and keeps it so', () => {
  const { output, text } = stderr(true, 60)
  const progress = new TrainProgress(output, PLANNED, 70 * MIB)
  const evaluation = { event: 'eval' as const, perplexity: 1.1, tokens: 1684, supervisedTokens: 816 }
  progress.update(step(1))
  progress.evaluated({ ...evaluation, step: 1, loss: 0.09773, exactMatch: 0 })
  progress.update(step(2))
  progress.evaluated({ ...evaluation, step: 2, loss: 0.09479, exactMatch: 0.0833 })
  progress.stop()
  const rows = stripVTControlCharacters(text()).replaceAll('\r', '').split('\n')
  expect(rows.every((row) => row.length <= 60)).toBe(true)
  expect(rows.slice(-3).join('\n')).toBe(
    '  step   2   held-out loss 0.09479\n    ↓ 0.0029, exact match 8.33 %\n',
  )
})

test('a status line is cut to the width of the terminal, ticks when nothing is new, and goes away', () => {
  const terminal = stderr(true)
  const line = new StatusLine(terminal.output)
  line.update('x'.repeat(300))
  line.clear()
  line.clear()
  expect(terminal.text()).toBe(`${first(`${'x'.repeat(200)}`)}${GONE}`)
  const ticking = stderr(true)
  const wait = new StatusLine(ticking.output, 'Loading')
  wait.update('12 %')
  vi.advanceTimersByTime(3000)
  wait.clear()
  vi.advanceTimersByTime(3000)
  expect(ticking.text()).toBe(
    `${first('Loading: 12 %')}${again('Loading: 12 %')}${again('Loading: 12 %, 2 s')}${again('Loading: 12 %, 3 s')}${GONE}`,
  )
})

test('without a terminal a wait is told when it gets long, and then now and then', () => {
  const nameless = stderr(false)
  new StatusLine(nameless.output).update('12 %')
  const quick = stderr(false)
  const over = new StatusLine(quick.output, 'Loading')
  over.update('12 %')
  vi.advanceTimersByTime(1999)
  over.clear()
  const long = stderr(false)
  const wait = new StatusLine(long.output, 'Loading')
  wait.update('12 %')
  vi.advanceTimersByTime(9000)
  wait.update('50 %')
  vi.advanceTimersByTime(9000)
  wait.clear()
  vi.advanceTimersByTime(30_000)
  expect([nameless.text(), quick.text()]).toEqual(['', ''])
  expect(long.text()).toBe('Loading: 12 %, 2 s\nLoading: 50 %, 12 s\n')
})

test('a wait that tells its share says how long it goes on', () => {
  const { output, text } = stderr(false)
  const wait = new StatusLine(output, 'Measuring')
  wait.update('1 of 4: lora', 0)
  vi.advanceTimersByTime(8000)
  wait.update('2 of 4: qlora', 0.25)
  vi.advanceTimersByTime(4000)
  wait.update('2 of 4: qlora', 0.25)
  vi.advanceTimersByTime(21_000)
  wait.clear()
  expect(text().split('\n')).toEqual([
    'Measuring: 1 of 4: lora, 2 s',
    'Measuring: 2 of 4: qlora, 12 s, about 20 s left',
    'Measuring: 2 of 4: qlora, 22 s, about 10 s left',
    'Measuring: 2 of 4: qlora, 32 s',
    '',
  ])
})

test('a step that takes long is told of, from the first on', () => {
  const piped = stderr(false)
  const lines = new TrainProgress(piped.output, PLANNED, 70 * MIB)
  lines.begin()
  vi.advanceTimersByTime(4000)
  lines.update(step(1))
  vi.advanceTimersByTime(25_000)
  lines.stop()
  vi.advanceTimersByTime(60_000)
  expect(
    piped
      .text()
      .replace(/ {2}loss.*/g, '')
      .split('\n'),
  ).toEqual(['First step, 2 s', 'step   1/100', 'step 2, 10 s so far', 'step 2, 20 s so far', ''])
  const terminal = stderr(true)
  const bar = new TrainProgress(terminal.output, PLANNED, 70 * MIB)
  bar.begin()
  vi.advanceTimersByTime(3000)
  expect(terminal.text()).toContain(again('First step, 3 s'))
  bar.update(step(100))
  vi.advanceTimersByTime(3000)
  bar.stop()
  expect(terminal.text()).toMatch(/100 % {3}finishing /)
})

test('work that keeps the timer from running is named before it begins, and tells how far it is', async () => {
  const terminal = stderr(true)
  await shown(terminal.output, 'Reading', async () => expect(terminal.text()).toBe(first('Reading')))
  expect(terminal.text()).toBe(first('Reading') + GONE)
  const piped = stderr(false)
  await shown(piped.output, 'Reading', async (line) => {
    for (let rows = 1; rows <= 4; rows++) {
      busy(1000)
      line.update(`${rows} rows`)
    }
  })
  expect(piped.text()).toBe('Reading: 2 rows, 2 s\n')
})

test('a wait that goes on from others counts the time from its beginning', async () => {
  const { output, text } = stderr(false)
  const begin = performance.now()
  for (const part of [0, 1]) {
    await shown(
      output,
      'Measuring',
      async (line) => {
        line.update(`part ${part + 1}`, part / 2)
        vi.advanceTimersByTime(20_000)
      },
      begin,
    )
  }
  expect(text().trimEnd().split('\n')).toEqual([
    'Measuring: part 1, 2 s',
    'Measuring: part 1, 12 s',
    'Measuring, 20 s',
    'Measuring: part 2, 30 s, about 10 s left',
    'Measuring: part 2, 40 s',
  ])
})
