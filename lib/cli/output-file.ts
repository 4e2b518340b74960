/** Files that a command writes at its end, checked before the work whose results they hold. */
import { existsSync, statSync } from 'node:fs'
import { dirname, resolve } from 'node:path'
import { writeFileWhole } from '../io/atomic.js'
import { checkFolder, makeFolder } from '../io/atomic-folder.js'
import { UsageError } from './errors.js'

/**
 * Refuses a file that cannot be written, or that exists and may not be replaced.
 * @param flag names the file, such as `--output`
 * @throws {UsageError} if the file exists; WriteError if its folder cannot be written to
 */
export async function checkOutputFile(path: string, flag: string, force: boolean): Promise<void> {
  if (existsSync(path)) {
    if (statSync(path).isDirectory())
      throw new UsageError(`${flag} ${path} is a folder; expected the name of a file.`, { path })
    if (!force)
      throw new UsageError(`${path} exists; name another file with ${flag}, or replace it with --force.`, {
        path,
      })
  }
  await checkFolder(dirname(resolve(path)))
}

/** Writes a checked file, in a folder that need not exist yet. */
export async function writeOutputFile(path: string, text: string): Promise<void> {
  await makeFolder(dirname(resolve(path)))
  await writeFileWhole(resolve(path), text)
}
