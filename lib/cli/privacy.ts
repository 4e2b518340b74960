/** Describes the guarantee of a private training run. */

import { openDataset, STDIN } from '../data/dataset.js'
import { clientColumn } from '../federated/clients.js'
import { planPrivacy, reportOf } from '../federated/privacy.js'
import { rulesOf } from '../strategies/index.js'
import { type PrivacyReport, privacyRemarks } from '../strategies/privacy-report.js'
import type { RunConfig } from '../train/config/config.js'
import { foldersOf } from '../train/folders/output-folder.js'
import { formatCount, shortPath } from './format.js'

export function privacyLines(
  privacy: PrivacyReport,
  remarks: readonly string[] = privacyRemarks(privacy),
): string[] {
  const { unit, population, cohort, delta, total_rounds: rounds, noise_multiplier: noise } = privacy
  const whose = unit === 'user' ? 'clients' : 'examples'
  return [
    `Private training: epsilon ${privacy.final_epsilon.toPrecision(4)} at delta ${delta.toPrecision(3)} after ${formatCount(rounds)} rounds.`,
    `A round draws about ${formatCount(cohort)} of ${formatCount(population)} ${whose}; the noise is ${noise.toPrecision(4)} times clipping_norm ${privacy.clipping_norm}.`,
    ...(privacy.private ? [] : [privacy.promise]),
    ...remarks.map((remark) => `warning: ${remark}.`),
  ]
}

/** Says which of the two folders of a private run may be shared. */
export function handingOn({ outputDir, strategy }: RunConfig): string {
  const { runDir } = foldersOf(outputDir, strategy)
  return `Share only ${shortPath(outputDir)}: ${shortPath(runDir)} holds the key of the noise, and losses without noise.`
}

/**
 * The guarantee of a config. Its data is counted without tokenizing it, so the count includes rows that the run
 * will drop. Undefined for a run without privacy, or data that can be read only once.
 */
export async function plannedPrivacy(config: RunConfig): Promise<PrivacyReport | undefined> {
  const { strategy, dataset } = config
  const privacy = rulesOf(strategy).privacy?.(strategy)
  if (privacy === undefined || [dataset.path].flat().includes(STDIN)) return undefined
  const { clients } = privacy
  if (clients?.count) return reportOf(planPrivacy(privacy, clients.count), 0)
  const column = clientColumn(clients)
  const seen = new Set<string>()
  let rows = 0
  for await (const { group } of openDataset(dataset.path, {
    ...dataset,
    ...(column ? { groupBy: column } : {}),
  })) {
    rows++
    if (group !== undefined) seen.add(group)
  }
  const all = column === undefined ? rows : seen.size
  return reportOf(planPrivacy(privacy, all - Math.round(config.evalFraction * all)), 0)
}
