/** Pairs of answers to the same prompt, and the metrics that losses over them share. */
import { add, type Metrics, type ScoredRow } from './rows.js'

/** A chosen and a rejected answer to the same prompt. */
export interface ScoredPair {
  readonly chosen: ScoredRow
  readonly rejected: ScoredRow
}

/** @param rows chosen and rejected rows in turn */
export function pairsOf(rows: readonly ScoredRow[]): ScoredPair[] {
  const pairs: ScoredPair[] = []
  for (let i = 0; i + 1 < rows.length; i += 2)
    pairs.push({ chosen: rows[i] as ScoredRow, rejected: rows[i + 1] as ScoredRow })
  return pairs
}

export function addRewards(metrics: Metrics, chosen: number, rejected: number): void {
  add(metrics, 'rewards/chosen', chosen)
  add(metrics, 'rewards/rejected', rejected)
  add(metrics, 'rewards/margins', chosen - rejected)
  add(metrics, 'rewards/accuracies', chosen > rejected ? 1 : 0)
}
