/** The checkpoints in the output folder of a run, beside its adapter or before there is one. */
import { listCheckpoints } from '../../train/checkpoints.js'
import { missingFile } from '../../train/training-state.js'
import { facts } from '../format.js'
import type { Inspection } from '../inspect.js'
import type { Printed } from '../schemas.js'

/** A checkpoint as --json lists it; what lacks a file cannot be resumed from. */
export type CheckpointFacts = Extract<Printed<'inspect'>, { kind: 'run' }>['checkpoints'][0]

/** The newest first. */
export async function checkpointsIn(folder: string): Promise<CheckpointFacts[]> {
  return (await listCheckpoints(folder)).map((path) => {
    const missing = missingFile(path)
    return { path, step: Number(/\d+$/.exec(path)?.[0]), ...(missing === undefined ? {} : { missing }) }
  })
}

/** One line each. */
export function checkpointLines(found: readonly CheckpointFacts[]): string[] {
  return found.map(({ path, missing }) =>
    missing === undefined ? path : `${path} (incomplete: no ${missing})`,
  )
}

/** An output folder whose run has not come to its end. */
export async function inspectRun(path: string): Promise<Inspection> {
  const checkpoints = await checkpointsIn(path)
  return {
    data: { kind: 'run', path, checkpoints },
    text: () =>
      facts([
        ['run', path],
        ['adapter', 'none yet: the run has not come to its end'],
        ...checkpointLines(checkpoints).map((line) => ['checkpoint', line] as const),
      ]),
  }
}
