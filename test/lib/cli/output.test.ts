import { expect, test } from 'vitest'
import { Output } from '../../../lib/cli/output.js'

function capture(json: boolean, colours = false) {
  const written = { stdout: '', stderr: '' }
  const stream = (name: 'stdout' | 'stderr') =>
    ({
      isTTY: colours,
      hasColors: () => colours,
      write: (text: string) => {
        written[name] += text
        return true
      },
    }) as unknown as NodeJS.WriteStream
  return { written, output: new Output(json, stream('stdout'), stream('stderr')) }
}

test('an answer is text for people and one line of JSON for programs', () => {
  const people = capture(false)
  people.output.answer({ a: 1 }, () => 'a is 1')
  expect(people.written).toEqual({ stdout: 'a is 1\n', stderr: '' })
  const programs = capture(true)
  programs.output.answer({ a: 1 }, () => 'a is 1')
  expect(programs.written).toEqual({ stdout: '{"a":1}\n', stderr: '' })
})

test('notes never reach stdout and events only with --json', () => {
  for (const json of [false, true]) {
    const { output, written } = capture(json)
    output.note('loading')
    output.event({ event: 'x' })
    expect(written).toEqual({ stdout: json ? '{"event":"x"}\n' : '', stderr: 'loading\n' })
  }
})

test('colours need a terminal that has them', () => {
  expect(capture(false).output.styled('green', 'ok')).toBe('ok')
  expect(capture(false, true).output.styled('green', 'ok')).toBe('\u001b[32mok\u001b[39m')
})
