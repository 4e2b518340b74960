// Builds the native tests for targets into out/tests, to be run on other machines (scripts/prebuilt-tests.mjs).
//
//   build-tests.mjs TARGET…|all
import { spawnSync } from 'node:child_process'
import { cpSync, mkdirSync } from 'node:fs'
import { dirname, extname, resolve } from 'node:path'
import { compilerOf, fail } from './compilers.mjs'
import { TARGETS, testsFile } from './targets.mjs'

const root = resolve(import.meta.dirname, '..')

/** The test executable of a target, where it was built. */
export function buildTests(target) {
  const args = ['scripts/native.mjs', 'tests', ...compilerOf(target)]
  const stdio = ['ignore', 'pipe', 'inherit']
  const built = spawnSync(process.execPath, args, { cwd: root, encoding: 'utf8', stdio })
  if (built.status !== 0) fail(`the tests for ${target} were not built; the reason is above`)
  return built.stdout.trim().split('\n').at(-1) + extname(testsFile(target))
}

if (process.argv[1] === import.meta.filename) {
  const words = process.argv.slice(2)
  const targets = words.join() === 'all' ? Object.keys(TARGETS) : words
  if (targets.length === 0) fail('build-tests: name targets, or all')
  for (const target of targets) {
    if (!(target in TARGETS))
      fail(`there is no target '${target}'; expected ${Object.keys(TARGETS).join(', ')}`)
    mkdirSync(dirname(testsFile(target)), { recursive: true })
    cpSync(buildTests(target), testsFile(target))
  }
}
