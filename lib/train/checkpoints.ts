/** The checkpoints that a run keeps in its folder. */
import { readdir, rm } from 'node:fs/promises'
import { basename, join } from 'node:path'
import { ConfigError } from '../core/errors.js'
import { placeOf, REPLACED } from '../io/atomic-folder.js'
import { cleanUp } from '../io/cleanup.js'
import type { Checkpoint } from './identity.js'
import { checkApart, checkOutput, type RunFolders, readRun, type WaysOn } from './output-folder.js'
import { damageOf, readCheckpoint, runOf } from './training-state.js'

const PREFIX = 'checkpoint-'

/** Path of the checkpoint of a step. */
export function checkpointPath(runDir: string, step: number): string {
  return join(runDir, `${PREFIX}${step}`)
}

/** A checkpoint that cannot be used. */
export interface Damaged {
  path: string
  /** In words, as in `adapter_model.safetensors is damaged`. */
  damage: string
}

interface Found {
  path: string
  step: number
  /** Undefined where the checkpoint does not say. */
  run: string | undefined
}

/** All of them, those of most steps first. */
async function findCheckpoints(runDir: string): Promise<Found[]> {
  const names = await readdir(runDir).catch(() => [])
  const steps = names.flatMap((name) => {
    const place = name.endsWith(REPLACED) ? name.slice(0, -REPLACED.length) : name
    const step = /^checkpoint-(\d+)$/.exec(place)?.[1]
    return step === undefined ? [] : [Number(step)]
  })
  const found = [...new Set(steps)].map(async (step) => {
    const path = placeOf(checkpointPath(runDir, step))
    return { path, step, run: await runOf(path) }
  })
  return (await Promise.all(found)).sort((a, b) => b.step - a.step)
}

/**
 * Paths of the checkpoints of a folder: those of the run that the folder belongs to first, and of each run those
 * of most steps first. A checkpoint that does not say its run counts as one of the folder's.
 */
export async function listCheckpoints(runDir: string): Promise<string[]> {
  const found = await findCheckpoints(runDir)
  const run = await readRun(runDir)
  const isOwn = (one: Found) => run === undefined || one.run === undefined || one.run === run
  return [...found.filter(isOwn), ...found.filter((one) => !isOwn(one))].map(({ path }) => path)
}

/**
 * Removes checkpoints of a folder until `limit` are left, the last of the list first.
 * @param kept paths of those that stay in any case
 */
export async function pruneCheckpoints(
  runDir: string,
  limit: number,
  kept: readonly string[],
): Promise<void> {
  const others = (await listCheckpoints(runDir)).filter((path) => !kept.includes(path))
  for (const path of others.slice(Math.max(0, limit - kept.length)))
    await cleanUp(path, () => rm(path, { recursive: true, force: true }))
}

/**
 * The whole checkpoint of most steps of the run that a folder belongs to, and those of more steps that are damaged.
 * @throws {ConfigError} when there is none
 */
export async function latestCheckpoint(runDir: string): Promise<{ path: string; damaged: Damaged[] }> {
  const found = await findCheckpoints(runDir)
  const run = (await readRun(runDir)) ?? onlyRun(runDir, found)
  const damaged: Damaged[] = []
  for (const one of found) {
    if (one.run !== undefined && one.run !== run) continue
    const damage = await damageOf(one.path)
    if (damage === undefined) return { path: one.path, damaged }
    damaged.push({ path: one.path, damage })
  }
  const others = found.filter((one) => !damaged.some(({ path }) => path === one.path))
  const [newest] = others
  const words = damaged.map(({ path, damage }) => ` ${basename(path)}: ${damage}.`).join('')
  const none = damaged.length > 0 ? '' : ' Train without --resume; save_steps: N saves one every N steps.'
  const advice =
    newest === undefined ? none : ` ${newest.path} belongs to an earlier run; name it to resume that run.`
  throw new ConfigError(`${runDir} holds no checkpoint to resume from.${words}${advice}`, {
    runDir,
    damaged,
    others: others.map(({ path }) => path),
  })
}

/** The run of all checkpoints, in a folder that does not say whose it is. */
function onlyRun(runDir: string, found: readonly Found[]): string | undefined {
  const runs = new Set(found.flatMap(({ run }) => run ?? []))
  if (runs.size < 2) return [...runs][0]
  throw new ConfigError(
    `${runDir} holds checkpoints of several runs (${found.map(({ path }) => basename(path)).join(', ')}); name the one to resume from.`,
    { runDir, found: found.map(({ path }) => path) },
  )
}

/** A checkpoint to go on from. */
export interface Resumable extends Checkpoint {
  /** Later checkpoints that cannot be used. */
  damaged: Damaged[]
}

/** Start of a run. */
export interface Beginning {
  /** A checkpoint, or true for the newest whole one of the run's folder; false is the start. */
  resume: string | boolean
  /** True if the result of another run may be replaced. */
  force: boolean
}

/**
 * The checkpoint that a run is to go on from, if any.
 * @param folders null for a run that saves nothing
 * @throws {ConfigError} when there is none, or the run would replace what another one has left
 */
export async function checkpointOf(
  folders: RunFolders | null,
  { resume, force }: Beginning,
  ways: WaysOn,
): Promise<Resumable | null> {
  if (folders === null && resume === true)
    throw new ConfigError('resume: true needs an outputDir with checkpoints.')
  const checked = force ? null : folders
  if (checked !== null) await checkApart(checked, ways)
  const checkpoint = await chosen(resume, folders?.runDir)
  if (checked !== null) await checkOutput(checked, checkpoint, ways)
  return checkpoint
}

async function chosen(resume: string | boolean, runDir = ''): Promise<Resumable | null> {
  if (resume === false) return null
  const { path, damaged } = resume === true ? await latestCheckpoint(runDir) : { path: resume, damaged: [] }
  return { ...(await readCheckpoint(path)), damaged }
}
