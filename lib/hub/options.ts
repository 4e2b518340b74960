/** Options for downloads from the Hugging Face Hub. */
import { abortSignal, callback } from '../core/arguments.js'
import { text } from '../core/schema.js'
import type { DownloadProgress } from './locate.js'

/** Options of functions that may download from the Hugging Face Hub. */
export interface HubOptions {
  /** Branch, tag, or commit on the Hub. Default: the part after `@` in the name, else `main`. */
  revision?: string | null
  /** Called while files are downloaded; never called if all are cached. */
  onDownload?: (progress: DownloadProgress) => void
  /** Cancels the operation; the promise then rejects with the signal's reason. */
  signal?: AbortSignal | undefined
}

export const hubShape = {
  revision: text('a branch, tag or commit').nullable().optional(),
  onDownload: callback<NonNullable<HubOptions['onDownload']>>().optional(),
  signal: abortSignal().optional(),
}
