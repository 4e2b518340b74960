/**
 * Figures for the table of families in docs/models.md: scripts/families.mjs names a file in LOWRANK_FAMILY_FIGURES and
 * runs the tests that measure them.
 */
import { appendFileSync } from 'node:fs'

export interface Figure {
  /** A tiny model of test/parity/models. */
  model: string
  source: 'folder' | 'gguf'
  what: 'logits' | 'gradients' | 'generation'
  /** Of several of one kind, the table has the largest. */
  value: number
}

export function measured(figure: Figure): void {
  const file = process.env.LOWRANK_FAMILY_FIGURES
  if (file) appendFileSync(file, `${JSON.stringify(figure)}\n`)
}
