/** The live page of a run: its flags, and its server while `lowrank train --live` runs. */
import { basename, join, resolve } from 'node:path'
import type { Command } from 'commander'
import { isLoopback } from '../core/hosts.js'
import { announce, livePage, ownControls, serveLive, withdraw } from '../report/live/index.js'
import { METRICS_FILE, type RunFolders, savedConfigText } from '../train/folders/output-folder.js'
import type { TrainingRun } from '../train/run/run.js'
import { integerFlag } from './help.js'
import type { Output } from './output.js'

export interface ServeOptions {
  port?: number
  host?: string
}

export function serveFlags(command: Command): void {
  command.option('--port <n>', 'port of the page (default: a free one)', integerFlag(0))
  command.option('--host <address>', 'address to listen on (default: 127.0.0.1, this machine only)')
}

/** Warns if other machines can open the page. */
export function noteOpen({ host = '127.0.0.1' }: ServeOptions, output: Output): void {
  if (!isLoopback(host))
    output.note(
      `note: the page is served on ${host} without encryption. Anyone with its URL can read the run and stop it.`,
    )
}

/** The live page of a run in this process. */
export interface LiveRun {
  readonly url: string
  /** Called when the run has begun: the page shows its log and can control it. */
  begin(run: TrainingRun): Promise<void>
  /** Sends the end of the log to open pages, then closes the server. */
  close(): Promise<void>
}

export async function openLive({ outputDir, runDir }: RunFolders, options: ServeOptions): Promise<LiveRun> {
  let run: TrainingRun | undefined
  const name = basename(resolve(outputDir))
  // Before the run has begun, the folder may contain the log of an earlier run.
  const log = () => (run === undefined ? undefined : join(runDir, METRICS_FILE))
  const server = await serveLive({
    log,
    page: async () => livePage(name, log(), run === undefined ? null : await savedConfigText(runDir)),
    controls: ownControls(() => run),
    ...options,
  })
  return {
    url: server.url,
    async begin(begun) {
      await announce(runDir, server.url)
      run = begun
    },
    async close() {
      if (run !== undefined) await withdraw(runDir)
      await server.close()
    },
  }
}
