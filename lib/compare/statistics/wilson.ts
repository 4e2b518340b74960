const NORMAL_975 = 1.959963984540054

/**
 * 95% confidence interval of the proportion `hits` / `count`.
 * @see Wilson 1927, Probable inference, the law of succession, and statistical inference
 */
export function wilson(hits: number, count: number): [low: number, high: number] {
  if (count === 0) return [0, 1]
  const share = hits / count
  const z2 = NORMAL_975 * NORMAL_975
  const center = (share + z2 / (2 * count)) / (1 + z2 / count)
  const half =
    (NORMAL_975 * Math.sqrt((share * (1 - share)) / count + z2 / (4 * count * count))) / (1 + z2 / count)
  return [hits === 0 ? 0 : center - half, hits === count ? 1 : center + half]
}
