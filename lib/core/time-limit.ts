/** Time limits on synchronous work: on the programs and regular expressions that models bring along. */
import { createContext, Script } from 'node:vm'

const sandbox = createContext({ task: undefined as unknown })
const runTask = new Script('task()')
/** True if a time limit is already running. */
let limited = false

/**
 * Runs `task` for so long at most. A limit takes a thread and half a millisecond to set up, so small pieces of work are
 * put under one limit together, and under one each only when that is exceeded.
 * @returns undefined when the time was over; the task is then broken off anywhere, and its `finally` blocks do not run
 */
export function withinTime<T>(milliseconds: number, task: () => T): { value: T } | undefined {
  sandbox.task = task
  limited = true
  try {
    return { value: runTask.runInContext(sandbox, { timeout: Math.ceil(milliseconds) }) }
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === 'ERR_SCRIPT_EXECUTION_TIMEOUT') return undefined
    throw cause
  } finally {
    limited = false
    sandbox.task = undefined
  }
}

/**
 * The same, unless a limit is running already, which then counts. A limit is about the task: if other programs had the
 * processor, or the machine slept, the task begins again with twice the time.
 * @throws what `late` gives when the time was over
 */
export function limitTime<T>(milliseconds: number, task: () => T, late: () => Error): T {
  if (limited) return task()
  for (let patience = milliseconds; ; patience *= 2) {
    const before = process.cpuUsage()
    const done = withinTime(patience, task)
    if (done) return done.value
    const { user, system } = process.cpuUsage(before)
    if ((user + system) / 1000 >= milliseconds / 2) throw late()
  }
}
