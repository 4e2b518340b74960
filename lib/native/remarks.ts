/** Forwards the engine's warnings about ongoing work. */
import { addon } from './addon.js'

/** Emits the warnings since the last call, each sentence once per process. */
export function warnOfRemarks(): void {
  for (const remark of addon().remarks()) process.emitWarning(remark, { code: 'LOWRANK_PINNED_MEMORY' })
}
