/** How busy the machine was while cells were trained: their times are comparable only where it was not. */
import { cpus, loadavg, platform } from 'node:os'
import type { CompareCell, CompareResults } from './results.js'

/** Load of the whole machine over the last minute; undefined on Windows, which does not count it. */
export function loadNow(): number | undefined {
  return platform() === 'win32' ? undefined : (loadavg()[0] as number)
}

/** The load at the beginning and the end of a cell. */
export function loadSince(before: number | undefined): Pick<CompareCell, 'load'> {
  const after = loadNow()
  if (before === undefined || after === undefined) return {}
  // The load is that of the machine, also in a container that has only some of its cores.
  return { load: { before, after, cores: cpus().length } }
}

/** A training alone loads no more than all cores, and its own threads beside them not by a quarter. */
const isBusy = ({ before, after, cores }: NonNullable<CompareCell['load']>) =>
  Math.max(before, after) > 1.25 * cores + 0.25

/** A sentence if cells were trained on a busy machine. */
export function busyRemarks({ entries }: Pick<CompareResults, 'entries'>): string[] {
  const loads = entries.flatMap(({ cells }) => cells.flatMap(({ load }) => load ?? []))
  const busy = loads.filter(isBusy)
  if (busy.length === 0) return []
  const most = busy.reduce((a, b) =>
    Math.max(b.before, b.after) / b.cores > Math.max(a.before, a.after) / a.cores ? b : a,
  )
  const load = Math.max(most.before, most.after).toFixed(1)
  const cores = most.cores === 1 ? '1 core' : `${most.cores} cores`
  return [
    `Times were measured on a busy machine: load up to ${load} on ${cores}, in ${busy.length} of ${loads.length} cells, so seconds and tokens per second are not comparable.`,
  ]
}
