/**
 * Runs once before all tests: brings dist/ and the addon up to date. The addon can be given instead, which is how the
 * sanitizer builds are tested, and LOWRANK_TESTS_BUILT says that both are. Native tests are built by test/native.
 */
import { execFileSync } from 'node:child_process'

function script(name: string, ...args: string[]): void {
  execFileSync(process.execPath, [`scripts/${name}.mjs`, ...args], { stdio: ['ignore', 'ignore', 'inherit'] })
}

/** A failure's messages are on the terminal already; tests that do not need the step can still be worked on. */
function attempt(step: () => void): void {
  try {
    step()
  } catch {
    // See above.
  }
}

export default function setup(): void {
  if (process.env.LOWRANK_TESTS_BUILT) return
  // Type errors do not keep tsc from writing its output; `npm run typecheck` is what judges them.
  attempt(() => script('typescript'))
  if (!process.env.LOWRANK_NATIVE_PATH) attempt(() => script('native', 'build'))
}
