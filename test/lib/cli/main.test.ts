import { expect, test } from 'vitest'
import { jsonLines, lowrank } from './lowrank.js'

const verbs = ['train', 'plan', 'eval', 'generate', 'chat', 'inspect', 'strategies', 'doctor']

test('without a verb the help goes to stderr and the exit code says wrong use', async () => {
  const { code, stdout, stderr } = await lowrank([])
  expect(code).toBe(2)
  expect(stdout).toBe('')
  for (const verb of verbs) expect(stderr).toContain(`\n  ${verb}`)
})

test('--help lists every verb and --version prints the version alone', async () => {
  const [help, version] = await Promise.all([lowrank(['--help']), lowrank(['--version'])])
  expect(help.code).toBe(0)
  for (const verb of verbs) expect(help.stdout).toContain(`\n  ${verb}`)
  expect(version).toMatchObject({ code: 0, stdout: expect.stringMatching(/^\d+\.\d+\.\d+\n$/) })
})

test.each(verbs)('the help of %s has --json and an example, however it is asked for', async (verb) => {
  const [flag, word] = await Promise.all([lowrank([verb, '--help']), lowrank(['help', verb])])
  expect(flag.code).toBe(0)
  expect(flag.stdout).toContain('--json')
  expect(flag.stdout).toContain(`$ lowrank ${verb}`)
  expect(word).toEqual(flag)
})

test('an unknown verb is wrong use, answered with the nearest one', async () => {
  const { code, stdout, stderr } = await lowrank(['inspekt', 'x'])
  expect(code).toBe(2)
  expect(stdout).toBe('')
  expect(stderr).toBe("error: unknown command 'inspekt'; Did you mean inspect?\n")
})

test('an unknown flag is wrong use, answered with the nearest one, also as JSON', async () => {
  const { code, stdout, stderr } = await lowrank(['doctor', '--json', '--jsn'])
  expect(code).toBe(2)
  const message = "unknown option '--jsn'; Did you mean --json?"
  expect(stderr).toBe(`error: ${message}\n`)
  expect(jsonLines(stdout)).toEqual([{ event: 'error', code: 'USAGE', message, details: {} }])
})

test('a missing argument is wrong use', async () => {
  const { code, stderr } = await lowrank(['inspect'])
  expect(code).toBe(2)
  expect(stderr).toBe("error: missing required argument 'path'.\n")
})
