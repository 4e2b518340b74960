/**
 * The guarantee of a private run, as stored in its checkpoints. A resumed run must keep it: with other clients
 * or other noise, the reported epsilon would be false.
 */
import { createHmac } from 'node:crypto'
import { ConfigError, FileFormatError } from '../core/errors.js'
import type { PrivacyPlan } from './privacy.js'

/** The privacy terms of a run, and the client of each row. */
export interface Pledge {
  terms: Terms
  /**
   * Base64 of OWNER_BYTES per row, in row order: a keyed hash of its client. Empty if examples are protected.
   */
  owners: string
}

type Terms = ReturnType<typeof termsOf>

const OWNER_BYTES = 4

/** The terms, named as in messages and checkpoints. */
function termsOf({ unit, population, cohort, samplingRate, noiseMultiplier, ...plan }: PrivacyPlan) {
  return {
    privacy_unit: unit,
    population,
    cohort,
    sampling_rate: samplingRate,
    noise_multiplier: noiseMultiplier,
    clipping_norm: plan.clippingNorm,
    delta: plan.delta,
    rounds: plan.rounds,
    final_epsilon: plan.finalEpsilon,
    drawn_population: plan.real.population,
    drawn_cohort: plan.real.cohort,
  }
}

/**
 * @param rows training rows
 * @param clients rows of each client; null if examples are protected
 * @param key key of the run, so that the hashes do not reveal the clients
 */
export function pledgeOf(
  plan: PrivacyPlan,
  rows: Uint32Array,
  clients: readonly Uint32Array[] | null,
  key: Uint8Array,
): Pledge {
  return { terms: termsOf(plan), owners: clients === null ? '' : ownersOf(rows, clients, key) }
}

function ownersOf(rows: Uint32Array, clients: readonly Uint32Array[], key: Uint8Array): string {
  const places = new Map(Array.from(rows, (row, place) => [row, place]))
  const owners = Buffer.alloc(OWNER_BYTES * rows.length)
  for (const [client, own] of clients.entries()) {
    const hash = createHmac('sha256', key).update(`client ${client}`).digest().subarray(0, OWNER_BYTES)
    for (const row of own) owners.set(hash, OWNER_BYTES * (places.get(row) as number))
  }
  return owners.toString('base64')
}

/**
 * @param kept the pledge in a checkpoint
 * @throws {FileFormatError} when the checkpoint has no pledge
 * @throws {ConfigError} naming every term that differs, and the number of rows that changed clients
 */
export function checkPledge(kept: unknown, here: Pledge): void {
  const { terms, owners } = (kept ?? {}) as Partial<Pledge>
  if (typeof terms !== 'object' || terms === null || typeof owners !== 'string')
    throw new FileFormatError(
      'the checkpoint does not record the privacy terms of its run, so it cannot be resumed; start a new run in another output_dir. Both runs spend on the same data.',
      {},
    )
  const names = Object.keys(here.terms) as (keyof Terms)[]
  const changes = names
    .filter((name) => terms[name] !== here.terms[name])
    .map(
      (name) =>
        `${name} is ${JSON.stringify(terms[name])} there and ${JSON.stringify(here.terms[name])} here`,
    )
  const moved = movedRows(owners, here.owners)
  if (moved > 0) changes.push(`${moved === 1 ? '1 row belongs' : `${moved} rows belong`} to another client`)
  if (changes.length === 0) return
  throw new ConfigError(
    `the private run cannot be resumed: ${changes.join('; ')}. Its guarantee holds only for the clients and the noise it started with. Restore them, or start a new run in another output_dir; both runs then spend on the same data.`,
    { there: terms, here: here.terms, movedRows: moved },
  )
}

function movedRows(there: string, here: string): number {
  if (there === here) return 0
  const [before, now] = [Buffer.from(there, 'base64'), Buffer.from(here, 'base64')]
  const rows = Math.max(before.length, now.length) / OWNER_BYTES
  let moved = 0
  for (let at = 0; at < rows * OWNER_BYTES; at += OWNER_BYTES)
    if (!before.subarray(at, at + OWNER_BYTES).equals(now.subarray(at, at + OWNER_BYTES))) moved++
  return moved
}
