/** Fits figures into a time: fewer seeds first, then fewer steps. */

/** Shares of the seeds and of the steps, from all to the fewest that show anything. */
export const LEVELS = [
  { seeds: 1, steps: 1 },
  { seeds: 0.67, steps: 1 },
  { seeds: 0.34, steps: 1 },
  { seeds: 0.34, steps: 0.5 },
  { seeds: 0.34, steps: 0.25 },
]

export function seedsAt({ seeds }, level) {
  return Math.max(1, Math.round(seeds * level.seeds))
}

export function stepsAt({ steps }, level) {
  return Math.max(1, Math.round(steps.count * level.steps))
}

/** Seconds of a figure on the machine of the list. */
export function secondsAt(figure, level) {
  const seeds = figure.seeds === undefined ? 1 : seedsAt(figure, level) / figure.seeds
  const steps = figure.steps === undefined ? 1 : stepsAt(figure, level) / figure.steps.count
  return figure.seconds * seeds * steps
}

/**
 * The first level at which figures take no longer than `room` seconds; undefined if none does.
 * @param slowness this machine's time over that of the list
 */
export function levelFor(figures, { room, slowness, jobs }) {
  return LEVELS.find((level) => timeOf(figures, level, { slowness, jobs }) <= room)
}

/**
 * Estimate in seconds: jobs side by side, but the longest figure is not divided. `running` are the seconds that figures in
 * progress still take.
 */
export function timeOf(figures, level, { slowness, jobs }, running = []) {
  const each = [...running, ...figures.map((figure) => slowness * secondsAt(figure, level))]
  return Math.max(each.reduce((sum, seconds) => sum + seconds, 0) / jobs, ...each, 0)
}
