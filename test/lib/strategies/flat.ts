import type { AdapterSpec } from '../../../lib/native/addon.js'
import type { KroneckerTerm, LowRankTerm, PairTerm } from '../../../lib/strategies/terms.js'

/** A term with its parameters and numbers side by side. */
export type FlatTerm = { kind: string; target: string } & LowRankTerm['parameters'] &
  LowRankTerm['numbers'] &
  Partial<PairTerm['parameters'] & KroneckerTerm['parameters']>

export const flat = ({ terms }: Pick<AdapterSpec, 'terms'>): FlatTerm[] =>
  terms.map(
    ({ kind, target, parameters, numbers }) => ({ kind, target, ...parameters, ...numbers }) as FlatTerm,
  )
