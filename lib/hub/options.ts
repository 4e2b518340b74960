/** Options for downloads from the Hugging Face hub. */
import { abortSignal, callback } from '../core/arguments.js'
import { text } from '../core/schema.js'
import type { DownloadProgress } from './locate.js'

/** Options of everything that may be on the Hugging Face hub. */
export interface HubOptions {
  /** Branch, tag or commit on the hub; default what follows an `@` in the name, else `main`. */
  revision?: string | null
  /** Called while files are downloaded; never when all are there. */
  onDownload?: (progress: DownloadProgress) => void
  /** Stops the work; the promise then rejects with the signal's reason. */
  signal?: AbortSignal
}

export const hubShape = {
  revision: text('a branch, tag or commit').nullable().optional(),
  onDownload: callback<NonNullable<HubOptions['onDownload']>>().optional(),
  signal: abortSignal().optional(),
}
