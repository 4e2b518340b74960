/** Warnings of the engine about work that goes on. */
import { addon } from './addon.js'

/** Warns of what was said since the last call, each sentence once in this process. */
export function warnOfRemarks(): void {
  for (const remark of addon().remarks()) process.emitWarning(remark, { code: 'LOWRANK_PINNED_MEMORY' })
}
