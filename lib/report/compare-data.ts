/** Data of a compare for its page. Values of the metric are fractions, or in the metric's own unit. */
export interface ComparePageData {
  title: string
  model: string
  finished: boolean
  when: string
  command: string | null
  metric: ComparedMetric
  seeds: readonly number[]
  equal: string
  rows: { train: number; validation: number; test: number }
  base: { value: number | null; loss: number | null } | null
  /** Sorted best first, once there are statistics. */
  entries: readonly ComparedEntry[]
  /** True once all cells are finished. */
  judged: boolean
  /** Verdicts of the metric on each entry beside each other, in the order of the entries; null for the same one. */
  beside: readonly (readonly (Verdict | null)[])[]
  /** Differences of the metric below it do not matter; null: equality was not tested. */
  margin: number | null
  others: readonly OtherMetric[]
  remarks: readonly string[]
  /** Which cells were trained again with equal bits, in a sentence. */
  verified: string
  leftOut: readonly { name: string; reason: string }[]
  machine: string
  version: string
  /** Named hashes of the inputs. */
  hashes: readonly (readonly [string, string])[]
  searchSeconds: number
  cellSeconds: number
  /** Probability that a compare of this size detects a difference of two standard deviations. */
  power: number | null
}

/** Outcome of comparing one entry with another. */
export type Verdict = 'better' | 'worse' | 'equal' | 'cannot be told'

/** A metric beside the one that the page is sorted by. */
export interface OtherMetric {
  metric: ComparedMetric
  /** Best first. */
  rows: readonly {
    label: string
    mean: number
    difference: number | null
    verdict: Verdict | null
    detectable: number | null
  }[]
}

export interface ComparedMetric {
  name: string
  higherIsBetter: boolean
  /** True if values range from 0 to 1. */
  isShare: boolean
}

export interface ComparedEntry {
  /** Name as in a config, or of a control. */
  name: string
  controlOf: string | null
  /** Its name in the literature; of a control, with what it changes. */
  label: string
  /** Label of the strategy that this control explains. */
  controlLabel: string | null
  mark: { hue: number; shape: 'filled' | 'open' | 'square' }
  about: string | null
  mean: number | null
  interval: readonly [number, number] | null
  spread: number | null
  diverged: number
  /** Difference from LoRA; null for LoRA itself. */
  difference: {
    verdict: Verdict
    value: number
    interval: readonly [number, number] | null
    p: number | null
    detectable: number | null
  } | null
  loss: number | null
  /** Increase of the loss on general text over the base's: the amount of forgetting. */
  forgotten: number | null
  parameters: number
  plannedBytes: number
  measuredBytes: number | null
  fileBytes: number | null
  tokensPerSecond: number | null
  /** Rates that the searches chose, by seed; one where all seeds shared a search. */
  chosen: readonly number[]
  atEdge: boolean
  isFlat: boolean
  /** Validation loss of the longest run at each rate, for each search. */
  searches: readonly (readonly { rate: number; loss: number | null; steps: number }[])[]
  cells: readonly ComparedCell[]
  /** Fraction of seeds that are correct, per item; empty for metrics that are not right-or-wrong. */
  shares: readonly number[]
  /** Answers of the first seed compared with LoRA's; null for metrics that are not right-or-wrong. */
  flips: { gained: number; lost: number; p: number; examples: readonly Flip[] } | null
}

/** An item that only one of two models answers correctly. Items count from 1. */
export interface Flip {
  item: number
  gained: boolean
  before: string
  after: string
}

export interface ComparedCell {
  seed: number
  rate: number
  value: number | null
  seconds: number
  hash: string
  /** Validation loss by step. */
  curve: readonly (readonly [number, number | null])[]
}
