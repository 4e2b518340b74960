/** The checkpoints in the folder of a run. */
import { readdir, rm } from 'node:fs/promises'
import { basename, join } from 'node:path'
import { ConfigError } from '../../core/errors.js'
import { placeOf, REPLACED } from '../../io/atomic-folder.js'
import { cleanUp } from '../../io/cleanup.js'
import {
  checkApart,
  checkFiles,
  checkOutput,
  type RunFolders,
  type RunOutputs,
  type WaysOn,
} from '../folders/output-folder.js'
import { readRun } from '../folders/run-files.js'
import type { Checkpoint } from './run-identity.js'
import { damageOf, readCheckpoint, runOf } from './state-file.js'

const PREFIX = 'checkpoint-'

/** Path of the checkpoint of a step. */
export function checkpointPath(runDir: string, step: number): string {
  return join(runDir, `${PREFIX}${step}`)
}

/** A checkpoint that cannot be used. */
export interface Damaged {
  path: string
  /** Description, as in `adapter_model.safetensors is damaged`. */
  damage: string
}

interface Found {
  path: string
  step: number
  /** Undefined if the checkpoint does not record its run. */
  run: string | undefined
}

/** All checkpoints, latest step first. */
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
 * Paths of the checkpoints in a folder: first those of the folder's own run, then those of others, each latest
 * step first. A checkpoint that does not record its run counts as the folder's own.
 */
export async function listCheckpoints(runDir: string): Promise<string[]> {
  const found = await findCheckpoints(runDir)
  const run = await readRun(runDir)
  const isOwn = (one: Found) => run === undefined || one.run === undefined || one.run === run
  return [...found.filter(isOwn), ...found.filter((one) => !isOwn(one))].map(({ path }) => path)
}

/**
 * Removes checkpoints of a folder, from the end of the list, until `limit` are left.
 * @param kept paths of checkpoints to keep in any case
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
 * The latest undamaged checkpoint of the folder's run, and any later ones that are damaged.
 * @throws {ConfigError} when there is no undamaged checkpoint
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

/** The run that all checkpoints belong to, in a folder that does not record its run. */
function onlyRun(runDir: string, found: readonly Found[]): string | undefined {
  const runs = new Set(found.flatMap(({ run }) => run ?? []))
  if (runs.size < 2) return [...runs][0]
  throw new ConfigError(
    `${runDir} holds checkpoints of several runs (${found.map(({ path }) => basename(path)).join(', ')}); name the one to resume from.`,
    { runDir, found: found.map(({ path }) => path) },
  )
}

/** A checkpoint to resume from. */
export interface Resumable extends Checkpoint {
  /** Later checkpoints that cannot be used. */
  damaged: Damaged[]
}

/** How a run starts. */
export interface Beginning {
  /**
   * Path of a checkpoint, or true for the newest undamaged one in the run's folder; false starts from the
   * beginning.
   */
  resume: string | boolean
  /** True if the run may replace the result of another run. */
  force: boolean
}

/**
 * The checkpoint to resume from, if any.
 * @param folders null for a run that saves nothing
 * @throws {ConfigError} when there is no such checkpoint, or the run would replace the output of another one or a file
 * that no run wrote
 */
export async function checkpointOf(
  folders: RunFolders | null,
  { resume, force }: Beginning,
  outputs: RunOutputs,
  ways: WaysOn,
): Promise<Resumable | null> {
  if (folders === null && resume === true)
    throw new ConfigError('resume: true needs an outputDir with checkpoints.')
  const checked = force ? null : folders
  if (checked !== null) await checkApart(checked, ways)
  const checkpoint = await chosen(resume, folders?.runDir)
  if (checked !== null) {
    await checkOutput(checked, checkpoint, ways)
    await checkFiles(checked, outputs, ways)
  }
  return checkpoint
}

async function chosen(resume: string | boolean, runDir = ''): Promise<Resumable | null> {
  if (resume === false) return null
  const { path, damaged } = resume === true ? await latestCheckpoint(runDir) : { path: resume, damaged: [] }
  return { ...(await readCheckpoint(path)), damaged }
}
