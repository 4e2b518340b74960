// The full matrix: every check that this machine can make of every platform, each recorded, and the tables made of them.
// Takes hours; on Debian 12, scripts/target-tests.mjs and scripts/platforms.mjs name the packages that it asks for.
import { spawnSync } from 'node:child_process'

const CHECKS = [
  'build:prebuilds -- --target all --twice --record',
  ...['linux-x64', 'linux-x64-musl', 'linux-arm64', 'linux-arm64-musl', 'win32-x64'].map(
    (target) => `test:target -- ${target} --record`,
  ),
  'test:platforms -- --record',
  'test:demos -- --record',
  'install-matrix -- --record',
  'build:platforms',
]

for (const check of CHECKS) {
  console.log(`== npm run ${check}`)
  const { status } = spawnSync('npm', ['run', ...check.split(' ')], { stdio: 'inherit' })
  if (status === 0) continue
  console.error(`npm run ${check} ended with ${status}`)
  process.exitCode = 1
}
