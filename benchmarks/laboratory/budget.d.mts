/** Types of budget.mjs, for tests. */
export interface TimedFigure {
  seconds: number
  seeds?: number
  steps?: { flag: string; count: number }
}
export interface Level {
  seeds: number
  steps: number
}
export const LEVELS: readonly Level[]
export function seedsAt(figure: TimedFigure, level: Level): number
export function stepsAt(figure: TimedFigure, level: Level): number
export function secondsAt(figure: TimedFigure, level: Level): number
export function levelFor(
  figures: readonly TimedFigure[],
  machine: { room: number; slowness: number; jobs: number },
): Level | undefined
export function timeOf(
  figures: readonly TimedFigure[],
  level: Level,
  machine: { slowness: number; jobs: number },
  running?: readonly number[],
): number
