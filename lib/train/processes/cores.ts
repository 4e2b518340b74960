/** The cores of a machine, as ranks on it share them. */

/** The cores that a rank may run on, and how many of them it can use at a time. */
export interface Machine {
  host: string
  /** Boot id, which ranks on one machine share; empty if unknown. */
  boot: string
  cores: readonly number[]
  usable: number
}

/** Threads for a rank: its share of each core that other ranks may also use, and at least one. */
export function shareOfCores(machines: readonly Machine[], rank: number): number {
  const own = machines[rank] as Machine
  const beside = machines.filter(({ host, boot }) => (boot === '' ? host === own.host : boot === own.boot))
  const users = (core: number) => beside.filter(({ cores }) => cores.includes(core)).length
  const part = own.cores.reduce((sum, core) => sum + 1 / users(core), 0)
  // A CPU quota is shared by all processes under it.
  const quota = own.usable < own.cores.length ? own.usable / beside.length : part
  return Math.max(1, Math.floor(Math.min(part, quota) + 1e-6))
}
