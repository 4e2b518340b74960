/** Counts of a private training round, or of part of one. */
export interface Intake {
  lossSum: number
  tokens: number
  supervised: number
  clipped: number
}

export function emptyIntake(): Intake {
  return { lossSum: 0, tokens: 0, supervised: 0, clipped: 0 }
}

export function addIntake(sum: Intake, part: Intake): void {
  sum.lossSum += part.lossSum
  sum.tokens += part.tokens
  sum.supervised += part.supervised
  sum.clipped += part.clipped
}
