/** What the engine has to say of work that goes on all the same. */
import { addon } from './addon.js'

/** Warns of what was said since the last call, each sentence once in this process. */
export function warnOfRemarks(): void {
  for (const remark of addon().remarks()) process.emitWarning(remark, { code: 'LOWRANK_PINNED_MEMORY' })
}
