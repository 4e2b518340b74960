import { readFileSync } from 'node:fs'
import { join } from 'node:path'

/** Numbers of scipy and statsmodels, by test/parity/make_statistics.py. */
interface Golden {
  tails: [t: number, df: number, tail: number][]
  quantiles: [probability: number, df: number, t: number][]
  fishers: [f: number, df: number, otherDf: number, tail: number][]
  holm: [p: number[], adjusted: number[]][]
  wilson: [hits: number, count: number, interval: [number, number]][]
  mcnemar: [onlyFirst: number, onlySecond: number, p: number][]
  power: [seeds: number, spreads: number, power: number][]
  mixed: {
    scores: number[][][]
    differences: {
      pair: [number, number]
      left: number[]
      difference: number
      df: number
      p: number
      interval: [number, number]
    }[]
  }[]
}

const file = join(__dirname, '../../../parity/numbers/statistics.json')

export const golden: Golden = JSON.parse(readFileSync(file, 'utf8'))

/** Error relative to the expected value, or absolute where that is 0. */
export const error = (value: number, expected: number) =>
  Math.abs(value - expected) / (Math.abs(expected) || 1)
