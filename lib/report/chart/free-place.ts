/** Finds a place for a label inside a chart where no line passes. */

export type Point = readonly [x: number, y: number]

/** A rectangle in pixels. */
export interface Box {
  left: number
  right: number
  top: number
  bottom: number
}

/** The first of the boxes that no path passes, else the one that the fewest pass. */
export function freest<B extends Box>(
  boxes: readonly B[],
  paths: readonly (readonly Point[])[],
): B | undefined {
  let [best, fewest] = [undefined as B | undefined, Number.POSITIVE_INFINITY]
  for (const box of boxes) {
    const crossed = paths.filter((path) => passes(path, box)).length
    if (crossed >= fewest) continue
    best = box
    fewest = crossed
    if (crossed === 0) break
  }
  return best
}

/** True if a path meets a box. */
export function passes(path: readonly Point[], box: Box): boolean {
  return path.some((point, index) => meets(path[index - 1] ?? point, point, box))
}

/** True if a segment and a box have a point in common (Liang and Barsky, 1984). */
function meets([x0, y0]: Point, [x1, y1]: Point, { left, right, top, bottom }: Box): boolean {
  let [from, to] = [0, 1]
  const sides: readonly Point[] = [
    [x0 - x1, x0 - left],
    [x1 - x0, right - x0],
    [y0 - y1, y0 - top],
    [y1 - y0, bottom - y0],
  ]
  for (const [slope, room] of sides) {
    if (slope === 0) {
      if (room < 0) return false
      continue
    }
    const at = room / slope
    if (slope < 0) from = Math.max(from, at)
    else to = Math.min(to, at)
    if (from > to) return false
  }
  return true
}
