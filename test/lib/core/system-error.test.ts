import { constants } from 'node:os'
import { describe, expect, test } from 'vitest'
import { isDefect, reportError } from '../../../lib/cli/errors.js'
import { Output } from '../../../lib/cli/output.js'
import { type LowrankError, SystemError, WriteError } from '../../../lib/core/errors.js'
import { fromSystem } from '../../../lib/core/system-error.js'

/** As Node.js makes them. */
function refused(code: string, syscall: string, path?: string): NodeJS.ErrnoException {
  const about = { errno: -1, code, syscall, ...(path === undefined ? {} : { path }) }
  return Object.assign(new Error(`${code}: ${syscall}`), about)
}

const CODES = Object.keys(constants.errno)

describe.each(['open', 'mkdir', 'stat', 'write', 'fsync', 'rename', 'mkdtemp', 'scandir', 'spawn node'])(
  'a call of %s',
  (syscall) => {
    test.each(CODES)('that is refused by %s is no defect of this package', (code) => {
      const error = refused(code, syscall, '/data/file')
      expect(isDefect(error)).toBe(false)
      const told = fromSystem(error)
      expect(told).toBeInstanceOf(SystemError)
      expect((told as LowrankError).details).toMatchObject({ reason: code, syscall, path: '/data/file' })
      expect((told as LowrankError).message).toMatch(new RegExp(`^/data/file: .*\\(${code}\\)\\.$`))
    })
  },
)

test('the words say what to do', () => {
  const words = (code: string, syscall: string) => (fromSystem(refused(code, syscall)) as Error).message
  expect(words('EMFILE', 'open')).toBe(
    'the system refused open: too many files are open; raise the limit with `ulimit -n` (EMFILE).',
  )
  expect(words('EAGAIN', 'spawn node')).toContain('ulimit -u')
  expect(words('ENOSPC', 'mkdtemp')).toContain('no space is left on the device')
  expect(words('ELOOP', 'stat')).toContain('lead in a circle')
})

test('errors of this package, and defects, stay what they are', () => {
  const own = new WriteError('cannot write', {})
  expect(fromSystem(own)).toBe(own)
  const defect = new TypeError('x is not a function')
  expect(fromSystem(defect)).toBe(defect)
  expect(isDefect(defect)).toBe(true)
  expect(reportError(defect, Output.silent())).toBe(1)
})
