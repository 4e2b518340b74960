/**
 * A child process that runs tasks of a compare for its parent: it receives the config once, then one task at a time,
 * and answers each with its outcome or its error. It exits when the parent does.
 */
import { LowrankError } from '../core/errors.js'
import { stoppingSignals } from '../core/system.js'
import { fromSystem } from '../core/system-error.js'
import { resolveConfig } from '../train/config/config.js'
import { type CompareTask, type Outcome, runTask, type TaskContext } from './cells.js'
import type { RowOptions } from './data.js'
import { metricsOf } from './metrics.js'
import { Workbench } from './workbench.js'

/** Messages to a child process: first the settings, then tasks. */
export type ChildRequest =
  | {
      open: RowOptions & {
        /** In snake_case, as in config files. */
        config: Record<string, unknown>
        threads: number
        metrics: string[]
        now: number
      }
    }
  | {
      task: CompareTask
      about: TaskContext
    }

/** The answer of a child process to a task. */
export type ChildAnswer =
  | { outcome: Outcome }
  | { error: { code: string; message: string; details: Record<string, unknown> } }

let workbench: Promise<Workbench> | undefined

// The terminal sends Ctrl-C to the whole process group; the parent decides when this process ends.
for (const name of stoppingSignals()) process.on(name, () => undefined)
process.on('disconnect', () => process.exit())
process.on('message', (request: ChildRequest) => {
  if ('open' in request) {
    const { config, threads, metrics, ...options } = request.open
    const resolved = resolveConfig(config, { name: 'compare', spelling: 'snake' }, '/')
    workbench = Workbench.open({ ...resolved, threads }, { ...options, metrics: metricsOf(metrics) })
    // A failure to open is reported as the answer to the first task.
    workbench.catch(() => undefined)
    return
  }
  void answer(request).then((found) => process.send?.(found))
})

async function answer({ task, about }: Extract<ChildRequest, { task: CompareTask }>): Promise<ChildAnswer> {
  try {
    return { outcome: await runTask((await workbench) as Workbench, task, about) }
  } catch (caught) {
    const error = fromSystem(caught)
    const known = error instanceof LowrankError
    const message = error instanceof Error ? error.message : String(error)
    return {
      error: { code: known ? error.code : 'INTERNAL', message, details: known ? error.details : {} },
    }
  }
}
