// Runs the tests with what was made for this platform on another machine: the addon in prebuilds/, and the native tests in
// out/tests (npm run build:tests). Nothing is compiled but TypeScript.
//
//   prebuilt-tests.mjs TARGET [argument of vitest]...
import { spawnSync } from 'node:child_process'
import { chmodSync, existsSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { fail } from './compilers.mjs'
import { prebuiltFile, TARGETS, testsFile } from './targets.mjs'

const root = resolve(import.meta.dirname, '..')
const [target, ...args] = process.argv.slice(2)
if (!(target in TARGETS))
  fail(`there is no target '${target ?? ''}'; expected ${Object.keys(TARGETS).join(', ')}`)
for (const [file, command] of [
  [prebuiltFile(target), 'build:prebuilds -- --target'],
  [testsFile(target), 'build:tests --'],
])
  if (!existsSync(file)) fail(`${file} is missing: npm run ${command} ${target}`)
// Storage between machines may lose the mode.
chmodSync(testsFile(target), 0o755)
const env = {
  ...process.env,
  LOWRANK_NATIVE_PATH: prebuiltFile(target),
  LOWRANK_NATIVE_TESTS: testsFile(target),
  LOWRANK_PARITY_FOLDER: join(root, 'test', 'parity'),
}
const vitest = join(root, 'node_modules', 'vitest', 'vitest.mjs')
const { status } = spawnSync(process.execPath, [vitest, 'run', '--project=unit', ...args], {
  cwd: root,
  env,
  stdio: 'inherit',
})
process.exitCode = status ?? 1
