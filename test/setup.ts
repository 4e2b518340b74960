/**
 * Runs once before all tests: brings dist/, the addon and the native test executable up to date. The last two can
 * be given instead, which is how the sanitizer builds are tested, and LOWRANK_TESTS_BUILT says that all are.
 */
import { execFileSync } from 'node:child_process'
import type { TestProject } from 'vitest/node'

declare module 'vitest' {
  interface ProvidedContext {
    /** Path of the native test executable; empty when the native code does not build. */
    nativeTests: string
  }
}

function script(name: string, ...args: string[]): string {
  const stdout = execFileSync(process.execPath, [`scripts/${name}.mjs`, ...args], {
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  return stdout.trim()
}

/** A failure's messages are on the terminal already; tests that do not need the step can still be worked on. */
function attempt(step: () => string): string {
  try {
    return step()
  } catch {
    return ''
  }
}

export default function setup(project: TestProject): void {
  if (process.env.LOWRANK_TESTS_BUILT) {
    project.provide('nativeTests', '')
    return
  }
  // Type errors do not keep tsc from writing its output; `npm run typecheck` is what judges them.
  attempt(() => script('typescript'))
  const executable = attempt(() => {
    if (!process.env.LOWRANK_NATIVE_PATH) script('native', 'build')
    return process.env.LOWRANK_NATIVE_TESTS ?? script('native', 'tests')
  })
  project.provide('nativeTests', executable)
}
