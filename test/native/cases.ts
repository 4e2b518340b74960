/** Shows every case of a native test executable under its own title. The cases are in the .cpp files beside this one. */
import { execFileSync, spawn } from 'node:child_process'
import { beforeAll, describe, expect, test } from 'vitest'

interface Result {
  outcome: 'ok' | 'fail' | 'skip' | 'crash'
  /** Failures with file, line and values, or the reason for skipping. */
  lines: string[]
}

const timeout = 240_000

/** Windows ends lines in its own way. */
const linesOf = (text: string) => text.split(/\r?\n/)

function listCases(executable: string): Map<string, string[]> {
  const files = new Map<string, string[]>()
  for (const line of linesOf(execFileSync(executable, ['--list'], { encoding: 'utf8' }).trim())) {
    const [file = '', title = ''] = line.split('\t')
    files.set(file, [...(files.get(file) ?? []), title])
  }
  return files
}

interface Ended {
  code: number | null
  signal: NodeJS.Signals | null
  stdout: string
  stderr: string
}

/** Not spawnSync: a worker that blocks for a minute is given up by vitest. */
function execute(executable: string, args: string[]): Promise<Ended> {
  const child = spawn(executable, args, { stdio: ['ignore', 'pipe', 'pipe'], timeout })
  let stdout = ''
  let stderr = ''
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    stdout += text
  })
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    stderr += text
  })
  return new Promise((done, failed) => {
    child.on('error', failed)
    child.on('close', (code, signal) => done({ code, signal, stdout, stderr }))
  })
}

/** Runs the cases of one file; a case without an outcome line is the one the process died in. */
async function runFile(executable: string, file: string): Promise<Map<string, Result>> {
  const run = await execute(executable, ['--file', file])
  const results = new Map<string, Result>()
  let current: Result = { outcome: 'crash', lines: [] }
  for (const line of linesOf(run.stdout)) {
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
  // A sanitizer may let every case pass and object only in its exit code.
  const failed = [...results.values()].some((result) => result.outcome === 'fail')
  if (run.code !== (failed ? 1 : 0)) current.outcome = 'crash'
  if (current.outcome === 'crash') {
    const end = run.signal ?? `code ${run.code}`
    current.lines.push(`the process ended with ${end}`, run.stderr.slice(-20_000))
  }
  return results
}

/** A test for each case of an executable. */
export function testCases(executable: string): void {
  const cases = listCases(executable)
  for (const [file, titles] of cases) {
    describe(file, () => {
      let results = new Map<string, Result>()
      beforeAll(async () => {
        results = await runFile(executable, file)
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
    for (const [file, titles] of cases) expect(new Set(titles).size, file).toBe(titles.length)
  })
}
