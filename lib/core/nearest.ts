/** Finds the intended word for a misspelled one. A wrong suggestion is misleading, so only likely typos are matched. */

/**
 * Maximum typos for a word length: none for very short words, where one typo makes another word, then about one in
 * five.
 */
const slipsIn = (length: number): number =>
  length < 4 ? 0 : length < 8 ? 1 : Math.min(3, Math.floor(length / 5) + 1)

/**
 * The candidate with the fewest typos, if close enough; ignores case and separators.
 * @param most maximum number of typos
 */
export function nearest(word: string, candidates: Iterable<string>, most = 3): string | undefined {
  const wanted = plain(word)
  let best: string | undefined
  let fewest = most + 1
  for (const candidate of candidates) {
    const name = plain(candidate)
    const slips = editDistance(wanted, name)
    const allowed = slipsIn(Math.max(wanted.length, name.length))
    if (slips <= allowed && slips < fewest) [best, fewest] = [candidate, slips]
  }
  return best
}

const plain = (word: string): string => word.toLowerCase().replace(/[-_ ]/g, '')

/** Edit distance with insertions, deletions, substitutions, and transpositions of adjacent letters. */
function editDistance(a: string, b: string): number {
  const rows = [Array.from({ length: b.length + 1 }, (_, j) => j)]
  const at = (i: number, j: number): number => rows[i]?.[j] as number
  for (let i = 1; i <= a.length; i++) {
    rows[i] = [i]
    for (let j = 1; j <= b.length; j++) {
      const edits = [
        at(i - 1, j - 1) + (a[i - 1] === b[j - 1] ? 0 : 1),
        at(i - 1, j) + 1,
        (rows[i]?.[j - 1] as number) + 1,
      ]
      if (i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1]) edits.push(at(i - 2, j - 2) + 1)
      ;(rows[i] as number[])[j] = Math.min(...edits)
    }
  }
  return at(a.length, b.length)
}
