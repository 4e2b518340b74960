/** Runs in the process that `mpi-libraries.ts` starts. */
import { addon } from './addon.js'

process.stdout.write(JSON.stringify(addon().mpi()))
