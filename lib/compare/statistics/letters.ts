/**
 * Compact letter display by insert-and-absorb: strategies that share a letter cannot be distinguished; those that share
 * none differ. The first strategy has an "a".
 * @param differs whether two of `count` strategies, given by index, differ
 * @see Piepho 2004, An algorithm for a letter-based representation of all-pairwise comparisons
 */
export function letters(count: number, differs: (a: number, b: number) => boolean): string[] {
  let sets: Set<number>[] = [new Set(Array.from({ length: count }, (_, index) => index))]
  for (let a = 0; a < count; a++)
    for (let b = a + 1; b < count; b++) {
      if (!differs(a, b)) continue
      sets = absorbed(
        sets.flatMap((set) => (set.has(a) && set.has(b) ? [without(set, a), without(set, b)] : [set])),
      )
    }
  const first = (set: Set<number>) => Math.min(...set)
  sets.sort((x, y) => first(x) - first(y) || Math.max(...x) - Math.max(...y))
  return Array.from({ length: count }, (_, index) =>
    sets.flatMap((set, place) => (set.has(index) ? [letter(place)] : [])).join(''),
  )
}

function without(set: ReadonlySet<number>, left: number): Set<number> {
  return new Set([...set].filter((member) => member !== left))
}

/** Drops sets that are contained in another; of equal sets, keeps one. */
function absorbed(sets: readonly Set<number>[]): Set<number>[] {
  const holds = (outer: Set<number>, inner: Set<number>) => [...inner].every((member) => outer.has(member))
  return sets.filter(
    (set, place) =>
      !sets.some(
        (other, otherPlace) =>
          otherPlace !== place && holds(other, set) && (other.size > set.size || otherPlace < place),
      ),
  )
}

/** a to z, then A to Z, then numbers in parentheses. */
function letter(place: number): string {
  const alphabet = 'abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ'
  return alphabet[place] ?? `(${place + 1})`
}
