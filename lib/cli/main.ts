#!/usr/bin/env node
/**
 * Starts the command line. Signals that ask it to stop are heard before the program is loaded, which takes longer
 * than a scheduler or an impatient user may wait; the program then ends as it does later. Nothing else is imported here.
 */
import module from 'node:module'
import { stoppingSignals } from '../core/system.js'

/** Exit code of an interrupted command. */
const INTERRUPTED = 130

/** Enables the compile cache of Node.js 22 and later, so that verbs start faster. */
function keepCompiled(): void {
  const { enableCompileCache } = module as { enableCompileCache?: () => void }
  enableCompileCache?.()
}

let isInterrupted = false
const early = (name: NodeJS.Signals) => {
  if (isInterrupted && name !== 'SIGHUP') process.exit(INTERRUPTED)
  isInterrupted = true
}
const names = stoppingSignals()
for (const name of names) process.on(name, early)
keepCompiled()
void import('./program.js').then(({ main }) => {
  void main(process.argv.slice(2), isInterrupted)
  // Only now, when the program listens: between the two a signal would end the process at once.
  for (const name of names) process.off(name, early)
})
