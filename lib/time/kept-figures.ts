/** Measurements made once per machine, stored next to the cached weights. */
import { createHash } from 'node:crypto'
import { dirname, join } from 'node:path'
import { packageRoot, packageVersion } from '../core/root.js'
import { hubSettings } from '../hub/settings.js'
import { writeFileWhole } from '../io/atomic.js'
import { makeFolder } from '../io/atomic-folder.js'

/** The file of a set of measurements: one per version of this package and per machine properties they depend on. */
export async function figuresFile(name: string, machine: readonly unknown[]): Promise<string> {
  return join(
    hubSettings().assetsDir,
    'lowrank',
    `${name}-${hashed([...machine, packageVersion(), packageRoot])}.json`,
  )
}

/** A short hash of a value. */
export const hashed = (value: unknown) =>
  createHash('sha256').update(JSON.stringify(value)).digest('hex').slice(0, 16)

/** If they cannot be stored, they are measured again next time. */
export async function keepFigures(file: string, figures: object): Promise<void> {
  await makeFolder(dirname(file))
    .then(() => writeFileWhole(file, `${JSON.stringify(figures, null, 2)}\n`))
    .catch(() => undefined)
}
