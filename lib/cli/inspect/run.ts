/** The checkpoints of a run, beside its adapter or before there is one. */
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { listCheckpoints } from '../../train/checkpoints.js'
import { foldersAt } from '../../train/output-folder.js'
import { missingFile } from '../../train/training-state.js'
import { facts } from '../format.js'
import type { Printed } from '../schemas.js'
import type { Inspection } from './inspection.js'

/** A checkpoint as --json lists it; what lacks a file cannot be resumed from. */
export type CheckpointFacts = Extract<Printed<'inspect'>, { kind: 'run' }>['checkpoints'][0]

/** Checkpoints of the run in this folder, the newest first. */
export async function checkpointsOf(folder: string): Promise<CheckpointFacts[]> {
  return (await listCheckpoints(foldersAt(folder).runDir)).map((path) => {
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

/** A folder of a run that holds no adapter. */
export async function inspectRun(path: string): Promise<Inspection> {
  const checkpoints = await checkpointsOf(path)
  const { outputDir } = foldersAt(path)
  const ended = existsSync(join(outputDir, 'adapter_config.json'))
  return {
    data: { kind: 'run', path, checkpoints },
    text: () =>
      facts([
        ['run', path],
        ['adapter', ended ? outputDir : 'none yet: the run has not finished'],
        ...checkpointLines(checkpoints).map((line) => ['checkpoint', line] as const),
      ]),
  }
}
