// Builds the native tests for arm64 Linux and runs them under qemu-user, so that the kernels of those processors are tested
// on others. On Debian: apt-get install g++-aarch64-linux-gnu qemu-user.
//
//   arm64.mjs [argument of the test executable]...
import { spawnSync } from 'node:child_process'
import { dirname, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'

const root = resolve(dirname(fileURLToPath(import.meta.url)), '..')

function run(command, args, stdout) {
  const ran = spawnSync(command, args, { cwd: root, encoding: 'utf8', stdio: ['ignore', stdout, 'inherit'] })
  if (ran.error?.code === 'ENOENT') {
    console.error(
      `arm64.mjs: ${command} was not found; on Debian: apt-get install g++-aarch64-linux-gnu qemu-user`,
    )
    process.exit(2)
  }
  if (ran.status !== 0) {
    process.stdout.write(ran.stdout ?? '')
    console.error(`arm64.mjs: ${[command, ...args].join(' ')} ended with ${ran.status ?? ran.signal}`)
    process.exit(1)
  }
  return ran.stdout?.trim()
}

const tests = run(process.execPath, ['scripts/native.mjs', 'tests', '--arch', 'arm64'], 'pipe')
  .split('\n')
  .at(-1)
// qemu-user takes no advice about memory and sets no limit to it, which two tests are about.
process.env.LOWRANK_EMULATED = '1'
run('qemu-aarch64', ['-L', '/usr/aarch64-linux-gnu', tests, ...process.argv.slice(2)], 'inherit')
