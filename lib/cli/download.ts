/** Finds what a verb is given by name, with the progress of a download if there is one. */
import { type Located, locate } from '../hub/locate.js'
import type { HubKind } from '../hub/select.js'
import { Interruption } from './interrupt.js'
import type { Output } from './output.js'
import { DownloadShown } from './progress.js'

/** @param signal ends the download; without one, Ctrl-C does */
export async function locateShown(
  kind: HubKind,
  name: string,
  output: Output,
  signal?: AbortSignal,
): Promise<Located> {
  const interruption = signal === undefined ? new Interruption(output, 'Stopping.') : undefined
  const download = new DownloadShown(output, name)
  try {
    return await locate(kind, name, {
      signal: signal ?? interruption?.signal,
      onDownload: (progress) => download.update(progress),
    })
  } finally {
    download.end()
    interruption?.dispose()
  }
}
