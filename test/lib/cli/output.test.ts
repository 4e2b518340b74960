import { closeSync, openSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { Output, sameTarget } from '../../../lib/cli/output.js'
import { scratchFolder } from '../scratch.js'

function capture(json: boolean, colors = false) {
  const written = { stdout: '', stderr: '' }
  const stream = (name: 'stdout' | 'stderr') =>
    ({
      isTTY: colors,
      hasColors: () => colors,
      write: (text: string) => {
        written[name] += text
        return true
      },
    }) as unknown as NodeJS.WriteStream
  return { written, output: new Output(json, stream('stdout'), stream('stderr')) }
}

test('an answer is text for people and one line of JSON for programs', () => {
  const people = capture(false)
  people.output.answer<'strategies'>([], () => 'none')
  expect(people.written).toEqual({ stdout: 'none\n', stderr: '' })
  const programs = capture(true)
  programs.output.answer<'strategies'>([], () => 'none')
  expect(programs.written).toEqual({ stdout: '[]\n', stderr: '' })
})

test('what a verb prints has its type: a field too few, or no verb at all, does not compile', () => {
  const { output, written } = capture(true)
  // @ts-expect-error no field of the event
  output.event<'chat'>({ event: 'save' })
  // @ts-expect-error no verb is named
  output.event({ event: 'reset' })
  expect(written.stdout).toBe('{"event":"save"}\n{"event":"reset"}\n')
})

test('notes never reach stdout and events only with --json', () => {
  for (const json of [false, true]) {
    const { output, written } = capture(json)
    output.note('loading')
    output.event<'chat'>({ event: 'reset' })
    expect(written).toEqual({ stdout: json ? '{"event":"reset"}\n' : '', stderr: 'loading\n' })
  }
})

test('colors need a terminal that has them', () => {
  expect(capture(false).output.styled('green', 'ok')).toBe('ok')
  expect(capture(false, true).output.styled('green', 'ok')).toBe('\u001b[32mok\u001b[39m')
})

test('streams of one file are told from streams of two', () => {
  const folder = scratchFolder()
  const [a, again, b] = ['a', 'a', 'b'].map((name) => ({ fd: openSync(join(folder, name), 'w') }))
  expect(sameTarget(a as { fd: number }, again as { fd: number })).toBe(true)
  expect(sameTarget(a as { fd: number }, b as { fd: number })).toBe(false)
  for (const stream of [a, again, b]) closeSync(stream?.fd as number)
  expect(sameTarget(a as { fd: number }, a as { fd: number })).toBe(false)
  expect(sameTarget({}, {})).toBe(false)
})
