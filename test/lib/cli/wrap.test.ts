import { expect, test } from 'vitest'
import { wrapped } from '../../../lib/cli/wrap.js'

test('a line ends between two words, and what is below it is indented like it', () => {
  expect(wrapped('note: out/checkpoint-1 is of an earlier run.\nshort', 20)).toBe(
    'note:\nout/checkpoint-1 is\nof an earlier run.\nshort',
  )
  expect(wrapped('  one two three four', 12)).toBe('  one two\n  three four')
})

test('the last column of a table is broken within it', () => {
  expect(wrapped('lora  Hu et al.  two factors of low rank', 36)).toBe(
    'lora  Hu et al.  two factors of low\n                 rank',
  )
  expect(wrapped(`${'a'.repeat(34)}  one two three four five six`, 60)).toBe(
    `${'a'.repeat(34)}  one two three four five\n${' '.repeat(36)}six`,
  )
})

test('where the last column has no room, it stands below its row', () => {
  expect(wrapped('a-first-column-that-is-wide  one two', 30)).toBe('a-first-column-that-is-wide\n  one two')
  expect(wrapped(`  ${'a'.repeat(20)}  one two three four five six seven`, 30)).toBe(
    `  ${'a'.repeat(20)}\n    one two three four five\n    six seven`,
  )
})

test('a table of numbers that is a little too wide stays one', () => {
  const rows = ['weights     256.6 MiB   50 %', 'workspace    2.47 MiB    0 %', '-'.repeat(28)]
  expect(wrapped(rows.join('\n'), 27)).toBe(
    ['weights    256.6 MiB   50 %', 'workspace   2.47 MiB    0 %', '-'.repeat(27)].join('\n'),
  )
})

test('other numbers stand below their row', () => {
  expect(wrapped(`${'a'.repeat(18)}  2.29e-6 nats per token`, 36)).toBe(
    `${'a'.repeat(18)}\n  2.29e-6 nats per token`,
  )
})

test('styles take no room', () => {
  const green = (text: string) => `\u001b[32m${text}\u001b[39m`
  expect(wrapped(`  ${green('right')}  one two three four`, 20)).toBe(
    `  ${green('right')}  one two\n         three four`,
  )
})

test('commands and code that are to be copied stay whole', () => {
  const commands = [
    '  lowrank train run.yaml --set learning_rate=1e-4 --resume',
    '  $ lowrank plan --model MODEL --method qlora',
    '  Try it    npx lowrank generate out/config.yaml --prompt "Hello"',
  ]
  expect(wrapped(commands.join('\n'), 20)).toBe(commands.join('\n'))
  expect(wrapped('see what `lowrank doctor --json` says', 30)).toBe('see what\n`lowrank doctor --json` says')
  expect(wrapped('  $ lowrank help train  more about a verb', 30)).toBe(
    '  $ lowrank help train\n    more about a verb',
  )
})

test('a word that no line has room for stands on a line of its own, unbroken', () => {
  expect(wrapped('saved to /a/very/long/path/of/a/file twice', 12)).toBe(
    'saved to\n/a/very/long/path/of/a/file\ntwice',
  )
})
