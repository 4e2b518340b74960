/** Finds a model or adapter by its name, and shows the progress if it has to be downloaded. */
import { type Located, type LocateOptions, locate } from '../hub/locate.js'
import type { HubKind } from '../hub/select.js'
import { Interruption } from './interrupt.js'
import type { Output } from './output.js'
import { DownloadShown } from './progress.js'

/** @param options.signal stops the download. Default: Ctrl-C does */
export async function locateShown(
  kind: HubKind,
  name: string,
  output: Output,
  { signal, revision }: Pick<LocateOptions, 'signal' | 'revision'> = {},
): Promise<Located> {
  const interruption = signal === undefined ? new Interruption(output, 'Stopping.') : undefined
  const download = new DownloadShown(output, name)
  try {
    return await locate(kind, name, {
      revision,
      signal: signal ?? interruption?.signal,
      onDownload: (progress) => download.update(progress),
    })
  } finally {
    download.end()
    interruption?.dispose()
  }
}
