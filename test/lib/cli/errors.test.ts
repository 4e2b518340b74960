import { CommanderError } from 'commander'
import { afterEach, expect, test, vi } from 'vitest'
import { InterruptedError, reportError, UsageError } from '../../../lib/cli/errors.js'
import { Output } from '../../../lib/cli/output.js'
import { ConfigError, FileFormatError, InternalError } from '../../../lib/core/errors.js'

afterEach(() => vi.unstubAllEnvs())

function report(error: unknown, json = true) {
  const written = { stdout: '', stderr: '' }
  const stream = (name: 'stdout' | 'stderr') =>
    ({
      write: (text: string) => {
        written[name] += text
        return true
      },
    }) as NodeJS.WriteStream
  const exitCode = reportError(error, new Output(json, stream('stdout'), stream('stderr')))
  return { exitCode, ...written }
}

test('a failure is one line for people and one for programs, with exit code 1', () => {
  const { exitCode, stdout, stderr } = report(new FileFormatError('a.gguf is cut short', { path: 'a.gguf' }))
  expect(exitCode).toBe(1)
  expect(stderr).toBe('error: a.gguf is cut short\ncode FILE_FORMAT, see docs/troubleshooting.md\n')
  expect(JSON.parse(stdout)).toEqual({
    event: 'error',
    code: 'FILE_FORMAT',
    message: 'a.gguf is cut short',
    details: { path: 'a.gguf' },
  })
})

test('without --json nothing of a failure reaches stdout', () => {
  expect(report(new FileFormatError('x'), false).stdout).toBe('')
})

test('bad values, bad flags and calls that contradict themselves are wrong use', () => {
  expect(report(new ConfigError('r is 0')).exitCode).toBe(2)
  expect(report(new UsageError('name a model')).exitCode).toBe(2)
  const unknown = new CommanderError(
    1,
    'commander.unknownOption',
    "error: unknown option '--jsn'\n(Did you mean --json?)",
  )
  expect(report(unknown)).toMatchObject({
    exitCode: 2,
    stderr: "error: unknown option '--jsn'; did you mean --json?\n",
  })
})

test('a call that makes no sense points to the help of its verb, where there is one', () => {
  const output = { stderr: '' }
  const stream = { write: (text: string) => (output.stderr += text) } as unknown as NodeJS.WriteStream
  reportError(new UsageError('name a model'), new Output(false, stream, stream), 'lowrank eval')
  expect(output.stderr).toBe('error: name a model\nsee lowrank eval --help\n')
  expect(report(new UsageError('name a model')).stderr).toBe('error: name a model\n')
})

test('an interruption is no error and has its own exit code', () => {
  const { exitCode, stderr } = report(new InterruptedError('stopped after step 3'))
  expect(exitCode).toBe(130)
  expect(stderr).toBe('interrupted: stopped after step 3\n')
})

test.each([new TypeError('x is undefined'), new InternalError('arena overlaps')])(
  'a defect of ours says how to report it: %s',
  (error) => {
    const { exitCode, stderr } = report(error)
    expect(exitCode).toBe(1)
    expect(stderr).toContain(error.message)
    expect(stderr).toContain('Please report it')
    expect(stderr).toContain('LOWRANK_DEBUG=1')
    expect(stderr).not.toContain('errors.test.ts')
  },
)

test('LOWRANK_DEBUG=1 adds the stack and that of the cause', () => {
  vi.stubEnv('LOWRANK_DEBUG', '1')
  const { stderr } = report(new FileFormatError('outer', {}, { cause: new Error('inner') }))
  expect(stderr).toContain('errors.test.ts')
  expect(stderr).toContain('caused by Error: inner')
})
