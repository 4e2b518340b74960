/** A compare as its page needs it. Values of the metric are shares where it is one, else in its own unit. */
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
  /** Best first, once there are statistics. */
  entries: readonly ComparedEntry[]
  /** True once all cells are there. */
  judged: boolean
  remarks: readonly string[]
  leftOut: readonly { name: string; reason: string }[]
  machine: string
  version: string
  /** Named hashes of what went in. */
  hashes: readonly (readonly [string, string])[]
  searchSeconds: number
  cellSeconds: number
  /** Share of compares of this size that find a difference of two spreads. */
  power: number | null
}

export interface ComparedMetric {
  name: string
  higherIsBetter: boolean
  /** True if values are from 0 to 1. */
  isShare: boolean
}

export interface ComparedEntry {
  /** As in a config, or of a control. */
  name: string
  controlOf: string | null
  about: string | null
  letters: string
  mean: number | null
  interval: readonly [number, number] | null
  spread: number | null
  diverged: number
  /** To LoRA; null for LoRA itself. */
  difference: {
    value: number
    interval: readonly [number, number] | null
    p: number | null
    detectable: number | null
  } | null
  loss: number | null
  /** On the general text, less that of the base: what was forgotten. */
  forgotten: number | null
  parameters: number
  plannedBytes: number
  measuredBytes: number | null
  fileBytes: number | null
  tokensPerSecond: number | null
  rate: number | null
  atEdge: boolean
  isFlat: boolean
  /** Validation loss of the longest run at each rate. */
  rates: readonly { rate: number; loss: number | null; steps: number }[]
  cells: readonly ComparedCell[]
  /** Share of seeds that are right, one an item; empty where the metric has no right and wrong. */
  shares: readonly number[]
  /** Answers of the first seed against LoRA's; null where there is no right and wrong. */
  flips: { gained: number; lost: number; p: number; examples: readonly Flip[] } | null
}

/** An item that one of two answers right. Items count from 1. */
export interface Flip {
  item: number
  gained: boolean
  before: string
  after: string
}

export interface ComparedCell {
  seed: number
  value: number | null
  seconds: number
  hash: string
  /** Validation loss by step. */
  curve: readonly (readonly [number, number | null])[]
}
