/**
 * Folders of a run and their owner. run.json names the run that writes there, so that its
 * checkpoints are distinguished from those of earlier runs, and an earlier result is not replaced by accident.
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
/** The page of a run. */
export const REPORT = 'report.html'
const VERSION = 1
const SIZE_LIMIT = 1 << 16
const SECRET = '-secret'

/** The folders of a run. */
export interface RunFolders {
  /** Gets the result. */
  outputDir: string
  /**
   * Gets what the run keeps of itself: checkpoints, metrics, the config. It is `outputDir` too, but of a private run
   * the folder beside it that its owner alone may read: there is the key, and there are losses without noise.
   */
  runDir: string
}

/** Folders of a run with this strategy; every reader and writer asks here. */
export function foldersOf(outputDir: string, strategy: StrategyConfig): RunFolders {
  return { outputDir, runDir: isPrivate(strategy) ? secretDir(outputDir) : outputDir }
}

/** Path of the config of a run, with every default filled in. */
export function savedConfig({
  outputDir,
  strategy,
}: {
  outputDir: string
  strategy: StrategyConfig
}): string {
  return join(foldersOf(outputDir, strategy).runDir, CONFIG)
}

/** The config of a run, as text; null without one. */
export async function savedConfigText(runDir: string): Promise<string | null> {
  return readFile(join(runDir, CONFIG), 'utf8').catch(() => null)
}

/** The folders of the run whose result, or checkpoints, a path leads to. */
export function foldersAt(path: string): RunFolders {
  const name = basename(resolve(path))
  if (name.endsWith(SECRET))
    return { outputDir: join(path, '..', name.slice(0, -SECRET.length)), runDir: path }
  const apart = secretDir(path)
  // An open run may have taken the place of a private one.
  const isOwn = existsSync(join(path, FILE)) || !existsSync(apart)
  return { outputDir: path, runDir: isOwn ? path : apart }
}

function secretDir(outputDir: string): string {
  return join(outputDir, '..', `${basename(resolve(outputDir))}${SECRET}`)
}

function isApart({ outputDir, runDir }: RunFolders): boolean {
  return outputDir !== runDir
}

/** The run that a folder belongs to; undefined where it does not say. */
export async function readRun(runDir: string): Promise<string | undefined> {
  const about = await readJsonObject(join(runDir, FILE), SIZE_LIMIT).catch(() => undefined)
  return typeof about?.run === 'string' ? about.run : undefined
}

/** Makes folders those of a run, and clears away what killed processes left half written in them. */
export async function openFolders(folders: RunFolders, run: string): Promise<void> {
  const { outputDir, runDir } = folders
  await makeFolder(runDir, isApart(folders) ? 0o700 : undefined)
  // Leftovers of a killed run may contain the key of its noise; those beside the folder, an adapter.
  for (const folder of new Set([runDir, outputDir, dirname(resolve(outputDir))]))
    await removeLeftovers(folder)
  await restoreReplaced(runDir)
  if (isApart(folders))
    for (const name of await recordsIn(outputDir))
      await rm(join(outputDir, name), { recursive: true, force: true })
  await writeFileWhole(join(runDir, FILE), `${JSON.stringify({ version: VERSION, run }, null, 2)}\n`)
}

/** Advice on how to continue, in the words of the command line or of the API. */
export interface WaysOn {
  resume: string
  force: string
  elsewhere: string
}

/** @throws {ConfigError} when the result of a private run would lie among what another run keeps of itself */
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
 * @param resumed the checkpoint that is to go on, if any
 * @throws {ConfigError} when a run would replace what another one has left there
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

/** Names of what runs keep of themselves in a folder. A config.yaml or a page without a run beside it may be anybody's. */
async function recordsIn(folder: string): Promise<string[]> {
  const names: string[] = await readdir(folder).catch(() => [])
  const files = ['metrics.jsonl', FILE, ...(names.includes(FILE) ? [CONFIG, REPORT] : [])]
  return names.filter((name) => files.includes(name) || isCheckpoint(name)).sort()
}

function isCheckpoint(name: string): boolean {
  return /^checkpoint-\d+$/.test(name.endsWith(REPLACED) ? name.slice(0, -REPLACED.length) : name)
}
