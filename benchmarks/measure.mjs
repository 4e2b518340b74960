// Code shared by the benchmarks: clocks, medians, and texts.
import { availableParallelism, cpus } from 'node:os'
import { basename, relative } from 'node:path'

/** CPU time of the process so far, in seconds, over all threads. */
export const cpuSeconds = () => {
  const { user, system } = process.cpuUsage()
  return (user + system) / 1e6
}

export const median = (values) => values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)]

/** The command of a result, without the paths of its files, the processor, and the day. */
export const measuredBy = () => {
  const [, script, ...args] = process.argv
  const shown = args.filter((arg) => arg !== '--json').map((arg) => (arg.includes('/') ? basename(arg) : arg))
  return {
    command: ['node', relative(process.cwd(), script), ...shown].join(' '),
    machine: `${availableParallelism()} cores of ${cpus()[0].model}`,
    date: new Date().toISOString().slice(0, 10),
  }
}

/** Waits until a server answers an address with success. @throws {Error} if its process ends before */
export async function answers(url, child) {
  for (;;) {
    const end = child.exitCode ?? child.signalCode
    if (end !== null) throw new Error(`${child.spawnfile} ended with ${end}`)
    const ready = await fetch(url, { signal: AbortSignal.timeout(2000) }).catch(() => undefined)
    if (ready?.ok) return
    await new Promise((done) => setTimeout(done, 100))
  }
}

/** Median, lowest and highest of ratios, in words. */
export const ranged = (ratios) =>
  `${median(ratios).toFixed(2)} (${Math.min(...ratios).toFixed(2)} to ${Math.max(...ratios).toFixed(2)})`

/** The environment of a peer in Python, with `more` set in it. */
export function peerEnvironment(more = {}) {
  // Set on some machines for old OpenBLAS builds; they slow a current numpy and torch.
  const { OPENBLAS_CORETYPE: _, OPENBLAS_L2_SIZE: __, ...rest } = process.env
  return { ...rest, ...more }
}

export { textRows, words } from '../dist/esm/bench/texts.js'
