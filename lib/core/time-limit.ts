/** Time limits on synchronous work, such as templates and regular expressions from models. */
import { createContext, Script } from 'node:vm'

const sandbox = createContext({ task: undefined as unknown })
const runTask = new Script('task()')
/** True if a time limit is already running. */
let limited = false

/**
 * Runs `task` with a time limit. Setting up a limit takes a thread and half a millisecond, so small tasks should share
 * one limit, and get individual ones only if it is exceeded.
 * @returns undefined on timeout; the task is then interrupted anywhere, without running its `finally` blocks
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
 * Like `withinTime`, but an outer limit takes precedence. The limit is on the task's own time: if other programs used
 * the CPU or the machine slept, the task restarts with twice the limit.
 * @throws the error from `late` on timeout
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
