/**
 * Runs one command after another in one process, which loads the code of the command line only once. A command ends as
 * its process would: when it waits for nothing more. `lowrank.ts` starts it.
 */
import { fileURLToPath } from 'node:url'

const main = new URL('../../../dist/esm/cli/main.js', import.meta.url)
let commands = 0

process.on('disconnect', () => process.exit())

process.on('message', ({ args, cwd, end }) => {
  // Only what the command waits for keeps the process alive.
  process.channel.unref()
  process.chdir(cwd)
  process.argv.splice(1, Infinity, fileURLToPath(main), ...args)
  process.exitCode = 0
  // Listeners of the command run before the immediate, and may set another code.
  process.once('beforeExit', () => setImmediate(finish, end))
  // The module runs again under a new address; its imports, of which some import it under the first one, do not.
  import(commands === 0 ? main.href : `${main.href}?${commands}`)
  commands++
})

function finish(end) {
  process.channel.ref()
  for (const name of [
    'uncaughtException',
    'beforeExit',
    'SIGINT',
    'SIGTERM',
    'SIGHUP',
    'SIGQUIT',
    'SIGBREAK',
  ])
    process.removeAllListeners(name)
  for (const stream of [process.stdout, process.stderr]) {
    stream.removeAllListeners('error')
    stream.write(`${end}${process.exitCode}\n`)
  }
}
