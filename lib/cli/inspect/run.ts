/** The checkpoints of a run, with or without its adapter. */
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { listCheckpoints } from '../../train/checkpoints/checkpoint-folder.js'
import { missingFile } from '../../train/checkpoints/state-file.js'
import { foldersAt } from '../../train/folders/output-folder.js'
import { facts } from '../format.js'
import type { Printed } from '../schemas.js'
import type { Inspection } from './inspection.js'

/** A checkpoint as listed by --json. A checkpoint with a missing file cannot be resumed. */
export type CheckpointFacts = Extract<Printed<'inspect'>, { kind: 'run' }>['checkpoints'][0]

/** Checkpoints of the run in this folder, newest first. */
export async function checkpointsOf(folder: string): Promise<CheckpointFacts[]> {
  return (await listCheckpoints(foldersAt(folder).runDir)).map((path) => {
    const missing = missingFile(path)
    return { path, step: Number(/\d+$/.exec(path)?.[0]), ...(missing === undefined ? {} : { missing }) }
  })
}

/** One line per checkpoint. */
export function checkpointLines(found: readonly CheckpointFacts[]): string[] {
  return found.map(({ path, missing }) =>
    missing === undefined ? path : `${path} (incomplete: no ${missing})`,
  )
}

/** Contents of a run's folder without an adapter. */
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
