/** Progress display of a build from source, with a program in place of CMake. */
import { execFile } from 'node:child_process'
import { chmodSync, copyFileSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { expect, test } from 'vitest'
import { needs } from '../../needs.js'
import { sweepTest } from '../../sweep.js'
import { scratchFolder } from '../scratch.js'

const terminal = fileURLToPath(new URL('../../e2e/terminal.py', import.meta.url))

/** A package whose build takes three seconds. */
function fakePackage(): string {
  needs('pseudo-terminals')
  const root = scratchFolder()
  mkdirSync(join(root, 'scripts'))
  mkdirSync(join(root, 'bin'))
  copyFileSync(new URL('../../../scripts/native.mjs', import.meta.url), join(root, 'scripts', 'native.mjs'))
  const cmake = join(root, 'bin', 'cmake')
  writeFileSync(
    cmake,
    `#!/bin/sh
case "$1" in
  --version) echo 'cmake version 3.28.1' ;;
  -S) mkdir -p "$4" ;;
  --build)
    for i in 1 2 3; do echo "[$i/4] Building CXX object $i.o"; sleep 1; done
    echo '[4/4] Linking CXX shared module'
    echo addon > "$2/lowrank.node" ;;
esac
`,
  )
  chmodSync(cmake, 0o755)
  return root
}

/** Builds on a terminal, with stderr there or elsewhere; returns what is seen. */
async function seen(root: string, stderr: string): Promise<string> {
  const install = `exec node ${join(root, 'scripts', 'native.mjs')} install ${stderr}`
  const env = { ...process.env, PATH: `${join(root, 'bin')}:${process.env.PATH}` }
  const args = [terminal, '80', '24', 'sh', '-c', install]
  return (await promisify(execFile)('python3', args, { env })).stdout
}

test.concurrent('the time left is told in a log beside what is being compiled', async () => {
  const root = fakePackage()
  const log = join(root, 'log')
  await seen(root, `2>${log}`)
  const lines = readFileSync(log, 'utf8').split('\n')
  expect(lines[0]).toBe('lowrank: building from source, which takes a few minutes')
  expect(lines).toContain('[2/4] Building CXX object 2.o')
  expect(lines).toContain('lowrank: 75 % is built, about 1 s left')
  expect(readFileSync(join(root, 'build', 'Release', 'lowrank.node'), 'utf8')).toBe('addon\n')
})

sweepTest('in the foreground it stands beside what is being compiled', async () => {
  const text = await seen(fakePackage(), '')
  expect(text).toContain('\r\u001b[K[3/4] Building CXX object 3.o, about 1 s left')
  expect(text).toContain('\r\u001b[K[4/4] Linking CXX shared module\r\n')
})
