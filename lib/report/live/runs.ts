/** The runs in the subfolders of a folder, served as a list with a page for each. */
import { existsSync } from 'node:fs'
import { readdir } from 'node:fs/promises'
import { basename, join, resolve } from 'node:path'
import { BusyError } from '../../core/errors.js'
import { foldersAt, METRICS_FILE, savedConfigText } from '../../train/folders/output-folder.js'
import { readMetrics } from '../../train/records/metrics-file.js'
import { runFrom } from '../run-data.js'
import { servedRunPage } from '../run-page.js'
import { listedRun } from '../runs-data.js'
import { runsPage } from '../runs-page.js'
import type { LiveOptions } from './server.js'

/** A run by the name of its folder. */
interface FoundRun {
  name: string
  /** Folder of its record. */
  runDir: string
}

/** The runs in the subfolders of a folder; a private run counts once, by the folder of its result. */
export async function runsIn(folder: string): Promise<FoundRun[]> {
  const entries = await readdir(folder, { withFileTypes: true }).catch(() => [])
  const found = entries
    .filter((entry) => entry.isDirectory() && !entry.name.startsWith('.'))
    .map(({ name }) => ({
      name: basename(resolve(foldersAt(join(folder, name)).outputDir)),
      ...foldersAt(join(folder, name)),
    }))
    .filter(({ runDir }) => existsSync(join(runDir, METRICS_FILE)))
  return [...new Map(found.map(({ name, runDir }) => [runDir, { name, runDir }])).values()]
}

/** Serves the list of the runs in a folder, read anew for each request. */
export function runsServed(folder: string): Pick<LiveOptions, 'log' | 'page' | 'run' | 'controls'> {
  const alone = () => new BusyError('a list of runs controls none of them; watch the folder of one run.', {})
  return {
    log: () => undefined,
    async page() {
      const found = await runsIn(folder)
      const runs = found.map(async ({ name, runDir }) => listedRun(name, runFrom(await readMetrics(runDir))))
      return runsPage(basename(resolve(folder)), await Promise.all(runs))
    },
    async run(asked) {
      const found = (await runsIn(folder)).find(({ name }) => name === asked)
      if (found === undefined) return undefined
      const { name, runDir } = found
      const config = await savedConfigText(runDir)
      return servedRunPage(runFrom(await readMetrics(runDir)), { name, config })
    },
    controls: {
      status: async () => ({ alive: false, reachable: false }),
      act: async () => Promise.reject(alone()),
      ask: async () => Promise.reject(alone()),
    },
  }
}
