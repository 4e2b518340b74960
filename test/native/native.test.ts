/** Shows every native test case under its own title. The cases are in the .cpp files beside this one. */
import { execFileSync, spawnSync } from 'node:child_process'
import { beforeAll, describe, expect, inject, test } from 'vitest'

interface Result {
  outcome: 'ok' | 'fail' | 'skip' | 'crash'
  /** Failures with file, line and values, or the reason for skipping. */
  lines: string[]
}

const executable = inject('nativeTests')
if (!executable) throw new Error('the native code does not build; the compiler messages are above')
const timeout = 240_000

function listCases(): Map<string, string[]> {
  const files = new Map<string, string[]>()
  for (const line of execFileSync(executable, ['--list'], { encoding: 'utf8' }).trim().split('\n')) {
    const [file = '', title = ''] = line.split('\t')
    files.set(file, [...(files.get(file) ?? []), title])
  }
  return files
}

/** Runs the cases of one file; a case without an outcome line is the one the process died in. */
function runFile(file: string): Map<string, Result> {
  const run = spawnSync(executable, ['--file', file], { encoding: 'utf8', timeout, maxBuffer: 1 << 28 })
  const results = new Map<string, Result>()
  let current: Result = { outcome: 'crash', lines: [] }
  for (const line of run.stdout.split('\n')) {
    const [, word, title = ''] = /^(run|ok|fail|skip) (.*)$/.exec(line) ?? []
    if (word === 'run') {
      current = { outcome: 'crash', lines: [] }
      results.set(title, current)
    } else if (word) {
      current.outcome = word as Result['outcome']
    } else if (line) {
      current.lines.push(line)
    }
  }
  if (current.outcome === 'crash') {
    current.lines.push(`the process ended with ${run.signal ?? `code ${run.status}`}`, run.stderr.slice(-20_000))
  }
  // A sanitizer may let every case pass and object only in its exit code.
  const failed = [...results.values()].some((result) => result.outcome === 'fail')
  if (run.status !== (failed ? 1 : 0) && current.outcome !== 'crash') {
    current.outcome = 'crash'
    current.lines.push(`the process ended with ${run.signal ?? `code ${run.status}`}`, run.stderr.slice(-20_000))
  }
  return results
}

for (const [file, titles] of listCases()) {
  describe(file, () => {
    let results = new Map<string, Result>()
    beforeAll(() => {
      results = runFile(file)
    }, timeout)

    for (const title of titles) {
      test(title, (context) => {
        const result = results.get(title)
        if (result?.outcome === 'skip') context.skip(result.lines.join('\n'))
        if (result?.outcome !== 'ok') {
          expect.fail(result ? result.lines.join('\n') : 'did not run: an earlier case ended the process')
        }
      })
    }
  })
}

test('titles of native cases are unique within a file', () => {
  for (const [file, titles] of listCases()) {
    expect(new Set(titles).size, file).toBe(titles.length)
  }
})
