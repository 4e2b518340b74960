/**
 * The folders of a run. run.json identifies the run that writes there, which distinguishes its checkpoints from
 * those of earlier runs and prevents replacing an earlier result by accident.
 */
import { existsSync } from 'node:fs'
import { readdir, readFile, rm } from 'node:fs/promises'
import { basename, dirname, join, resolve } from 'node:path'
import { ConfigError } from '../core/errors.js'
import { writeFileWhole } from '../io/atomic.js'
import { makeFolder, REPLACED, restoreReplaced } from '../io/atomic-folder.js'
import { readJsonObject } from '../io/input.js'
import { removeLeftovers } from '../io/temporary.js'
import { isPrivate } from '../strategies/index.js'
import type { StrategyConfig } from '../strategies/strategy.js'

const FILE = 'run.json'
const CONFIG = 'config.yaml'
/** File name of a run's page. */
export const REPORT = 'report.html'
const VERSION = 1
const SIZE_LIMIT = 1 << 16
const SECRET = '-secret'

/** The folders of a run. */
export interface RunFolders {
  /** Folder of the result. */
  outputDir: string
  /**
   * Folder of the run's own files: checkpoints, metrics, the config. Usually `outputDir`. A private run has a
   * separate folder beside it that only its owner may read, because it holds the key and losses without noise.
   */
  runDir: string
}

/** Folders of a run with this strategy; all readers and writers use this function. */
export function foldersOf(outputDir: string, strategy: StrategyConfig): RunFolders {
  return { outputDir, runDir: isPrivate(strategy) ? secretDir(outputDir) : outputDir }
}

/** Path of a run's saved config, with every default filled in. */
export function savedConfig({
  outputDir,
  strategy,
}: {
  outputDir: string
  strategy: StrategyConfig
}): string {
  return join(foldersOf(outputDir, strategy).runDir, CONFIG)
}

/** The saved config of a run, as text; null if there is none. */
export async function savedConfigText(runDir: string): Promise<string | null> {
  return readFile(join(runDir, CONFIG), 'utf8').catch(() => null)
}

/** Path where the run of an output folder saves its config. */
export function savedConfigAt(outputDir: string): string {
  return join(foldersAt(outputDir).runDir, CONFIG)
}

/** The folders of the run that a path belongs to; the path may be its result or its checkpoints. */
export function foldersAt(path: string): RunFolders {
  const name = basename(resolve(path))
  if (name.endsWith(SECRET))
    return { outputDir: join(path, '..', name.slice(0, -SECRET.length)), runDir: path }
  const apart = secretDir(path)
  // A run without privacy may have replaced a private one.
  const isOwn = existsSync(join(path, FILE)) || !existsSync(apart)
  return { outputDir: path, runDir: isOwn ? path : apart }
}

function secretDir(outputDir: string): string {
  return join(outputDir, '..', `${basename(resolve(outputDir))}${SECRET}`)
}

function isApart({ outputDir, runDir }: RunFolders): boolean {
  return outputDir !== runDir
}

/** The run that a folder belongs to; undefined if it is not recorded. */
export async function readRun(runDir: string): Promise<string | undefined> {
  const about = await readJsonObject(join(runDir, FILE), SIZE_LIMIT).catch(() => undefined)
  return typeof about?.run === 'string' ? about.run : undefined
}

/** Assigns folders to a run, and removes partial files of killed processes. */
export async function openFolders(folders: RunFolders, run: string): Promise<void> {
  const { outputDir, runDir } = folders
  await makeFolder(runDir, isApart(folders) ? 0o700 : undefined)
  // Leftovers of a killed run may contain the key of its noise; leftovers beside the folder, an adapter.
  for (const folder of new Set([runDir, outputDir, dirname(resolve(outputDir))]))
    await removeLeftovers(folder)
  await restoreReplaced(runDir)
  if (isApart(folders))
    for (const name of await recordsIn(outputDir))
      await rm(join(outputDir, name), { recursive: true, force: true })
  await writeFileWhole(join(runDir, FILE), `${JSON.stringify({ version: VERSION, run }, null, 2)}\n`)
}

/** Advice on how to continue, worded for the command line or the API. */
export interface WaysOn {
  resume: string
  force: string
  elsewhere: string
}

/** @throws {ConfigError} when the result of a private run would be in a folder with another run's own files */
export async function checkApart(folders: RunFolders, { force, elsewhere }: WaysOn): Promise<void> {
  if (!isApart(folders)) return
  const { outputDir, runDir } = folders
  const records = await recordsIn(outputDir)
  if (records.length === 0) return
  const files = records.filter((name) => !isCheckpoint(name))
  const found = files.length < records.length ? [...files, 'checkpoints'] : files
  throw new ConfigError(
    `${outputDir} holds ${found.join(', ')}. A private run keeps such files in ${runDir}, apart from the adapter. Move them there if they belong to this run; otherwise use ${elsewhere} to keep them, or ${force} to remove them.`,
    { outputDir, runDir, records },
  )
}

/**
 * @param resumed the checkpoint to resume from, if any
 * @throws {ConfigError} when a run would replace the output of another one
 */
export async function checkOutput(
  folders: RunFolders,
  resumed: { path: string; state: { run: string } } | null,
  ways: WaysOn,
): Promise<void> {
  const { outputDir, runDir } = folders
  const { results, checkpoints, words } = await heldIn(folders)
  if (results.length === 0) return
  const { resume, force, elsewhere } = ways
  const last = `${elsewhere} to keep it, or ${force} to replace it`
  const details = { outputDir, results }
  if (resumed === null) {
    const goOn = checkpoints ? `${resume} to continue it, ` : ''
    throw new ConfigError(`${words} of an earlier run. Use ${goOn}${last}.`, details)
  }
  const owner = await readRun(runDir)
  const inside = resolve(dirname(resumed.path)) === resolve(runDir)
  if (owner === undefined ? inside : owner === resumed.state.run) return
  throw new ConfigError(`${words} of another run than ${resumed.path}. Use ${last}.`, details)
}

async function heldIn({ outputDir, runDir }: RunFolders) {
  const has = (name: string) => existsSync(join(outputDir, name))
  const checkpoints = (await recordsIn(runDir)).some(isCheckpoint)
  const found = [
    ...(has('adapter_config.json') ? [[outputDir, 'the adapter'] as const] : []),
    ...(has('config.json') ? [[outputDir, 'the model'] as const] : []),
    ...(checkpoints ? [[runDir, 'checkpoints'] as const] : []),
  ]
  const words = [...new Set(found.map(([place]) => place))].map((place) => {
    const there = found.filter(([at]) => at === place).map(([, what]) => what)
    return `${place} holds ${there.join(' and ')}`
  })
  return { results: found.map(([, what]) => what), checkpoints, words: words.join(' and ') }
}

/** Names of the files of runs in a folder. Without run.json, a config.yaml or a page may not belong to a run. */
async function recordsIn(folder: string): Promise<string[]> {
  const names: string[] = await readdir(folder).catch(() => [])
  const files = ['metrics.jsonl', FILE, ...(names.includes(FILE) ? [CONFIG, REPORT] : [])]
  return names.filter((name) => files.includes(name) || isCheckpoint(name)).sort()
}

function isCheckpoint(name: string): boolean {
  return /^checkpoint-\d+$/.test(name.endsWith(REPLACED) ? name.slice(0, -REPLACED.length) : name)
}
