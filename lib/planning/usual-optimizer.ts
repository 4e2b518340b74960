/** The default optimizer of a run: AdamW, whose state some strategies page to disk if it does not fit in memory. */

import { existsSync, statfsSync } from 'node:fs'
import { dirname, resolve } from 'node:path'
import { adamWHeld, optimizerOf, statesOf } from '../options/optimizers.js'
import type { AdamW, Optimizer } from '../options/types.js'
import { rulesOf } from '../strategies/index.js'
import type { StrategyConfig } from '../strategies/strategy.js'
import type { MemoryReport } from './memory-report.js'

const MEBIBYTE = 1 << 20

/**
 * AdamW, or if the plan does not fit, paged AdamW with as much state in memory as fits. Results are the same.
 * @param plan returns the memory needed with an optimizer
 * @param available bytes
 * @param folder for the paged state
 */
export function usualOptimizer(
  strategy: StrategyConfig,
  plan: (optimizer: Optimizer) => MemoryReport,
  available: number,
  folder: string,
): Optimizer['type'] | Optimizer {
  if (!rulesOf(strategy).pagesState || !statesOf(strategy).paged) return 'adamw'
  const usual = optimizerOf('adamw') as AdamW
  const { peakBytes } = plan(usual)
  if (peakBytes <= available) return 'adamw'
  const least = plan(adamWHeld(usual, false, '1MiB')).peakBytes
  if (least >= peakBytes || livesInMemory(folder)) return 'adamw'
  const spare = Math.max(0, available - least)
  return adamWHeld(usual, false, `${1 + Math.floor(spare / MEBIBYTE)}MiB`)
}

/** True if the folder, which need not exist yet, is on a RAM file system (tmpfs), where paging would save nothing. */
function livesInMemory(folder: string): boolean {
  let there = resolve(folder)
  while (!existsSync(there) && dirname(there) !== there) there = dirname(there)
  return process.platform === 'linux' && IN_MEMORY.has(statfsSync(there).type)
}

/** File system types of tmpfs and ramfs, as reported by statfs. */
const IN_MEMORY = new Set([0x01021994, 0x858458f6])
