/** The optimizer of a run that names none: AdamW, whose state some strategies page where it does not fit. */
import { existsSync, statfsSync } from 'node:fs'
import { dirname, resolve } from 'node:path'
import { type AdamW, adamWHeld, type Optimizer, optimizerOf, statesOf } from '../options/optimizers.js'
import { rulesOf } from '../strategies/index.js'
import type { StrategyConfig } from '../strategies/strategy.js'
import type { MemoryReport } from './memory-report.js'

const MEBIBYTE = 1 << 20

/**
 * AdamW, or where the plan does not fit, AdamW with as much of its state in memory as does. The numbers are the same.
 * @param plan what the run takes with an optimizer
 * @param available bytes
 * @param folder where paged state would lie
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

/** True if files of a folder, which need not exist yet, are in memory (tmpfs), so that paging would save none. */
function livesInMemory(folder: string): boolean {
  let there = resolve(folder)
  while (!existsSync(there) && dirname(there) !== there) there = dirname(there)
  return process.platform === 'linux' && IN_MEMORY.has(statfsSync(there).type)
}

/** tmpfs and ramfs, as statfs tells them. */
const IN_MEMORY = new Set([0x01021994, 0x858458f6])
