/**
 * `lowrank watch OUTPUT_DIR`: the live page of any run, from its log on disk. The page can control a run
 * started with `lowrank train --live` while it is running on this machine. Of a folder of such folders, the list of
 * the runs.
 */
import { existsSync } from 'node:fs'
import { basename, join, resolve } from 'node:path'
import type { Command } from 'commander'
import { ConfigError } from '../core/errors.js'
import {
  type LiveOptions,
  livePage,
  remoteControls,
  runsIn,
  runsServed,
  serveLive,
} from '../report/live/index.js'
import { foldersAt, METRICS_FILE, savedConfigText } from '../train/folders/output-folder.js'
import { runAtWork } from '../train/folders/run-lock.js'
import { examples } from './help.js'
import { noteOpen, type ServeOptions, serveFlags } from './live.js'
import { Output } from './output.js'

export function configure(command: Command): void {
  command.argument('<output_dir>', 'the output folder of a run, or a folder with those of several')
  serveFlags(command)
  examples(command, ['lowrank watch out', 'lowrank watch out --port 8080', 'lowrank watch runs'])
  command.action(async (path: string, options: ServeOptions & { json?: boolean }) => {
    const output = new Output(options.json ?? false)
    const { port, host } = options
    const server = await serveLive({
      ...(await servedAt(path)),
      ...(port === undefined ? {} : { port }),
      ...(host === undefined ? {} : { host }),
    })
    noteOpen(options, output)
    const { url } = server
    output.answer<'watch'>({ url, output_dir: resolve(foldersAt(path).outputDir) }, () => url)
    output.note('Watching. Press Ctrl-C to end; the run is not affected.')
    // The server keeps the process running until a signal ends it.
    await new Promise(() => undefined)
  })
}

/** The page of the run in a folder, or the list of the runs in its subfolders. */
async function servedAt(path: string): Promise<Pick<LiveOptions, 'log' | 'page' | 'run' | 'controls'>> {
  const { outputDir, runDir } = foldersAt(path)
  const log = join(runDir, METRICS_FILE)
  const atWork = () => runAtWork(outputDir)
  if (!existsSync(log) && atWork() === undefined) {
    if ((await runsIn(path)).length === 0) throw noRun(path)
    return runsServed(path)
  }
  const name = basename(resolve(outputDir))
  return {
    log: () => log,
    page: async () => livePage(name, log, await savedConfigText(runDir)),
    controls: remoteControls(runDir, atWork),
  }
}

function noRun(path: string): ConfigError {
  const why = existsSync(path) ? `neither it nor a folder in it has a ${METRICS_FILE}` : 'it does not exist'
  return new ConfigError(
    `${path} is not the output folder of a run: ${why}. Pass the output_dir of a run that has begun to train.`,
    { path },
  )
}
