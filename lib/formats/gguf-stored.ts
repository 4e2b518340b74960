/** How the elements of tensors are stored in GGUF files, for the families whose files differ from their models. */
import type { StoredForm, StoredSizes } from './gguf-form.js'

/** The two rotary dimensions of a pair are adjacent rows of queries and keys. */
export function rotaryPairs(name: string, { heads, kvHeads }: StoredSizes): StoredForm {
  if (name.includes('.q_proj.')) return { permutedHeads: heads }
  return name.includes('.k_proj.') ? { permutedHeads: kvHeads } : {}
}

/** Weights of norms are stored with the 1 that the model adds to them. */
export const shiftedNorms = (name: string): StoredForm => (name.endsWith('norm.weight') ? { shift: 1 } : {})
