/**
 * The folders of a run. Neither the result of an earlier run nor a file of the user's is replaced by accident; run.json
 * tells which run and which files a folder has.
 */
import { existsSync } from 'node:fs'
import { readdir, readFile, rm } from 'node:fs/promises'
import { basename, dirname, join, resolve } from 'node:path'
import { ConfigError } from '../../core/errors.js'
import { makeFolder, REPLACED, restoreReplaced } from '../../io/atomic-folder.js'
import { removeLeftovers } from '../../io/temporary.js'
import { isPrivate, rulesOf } from '../../strategies/index.js'
import type { StrategyConfig } from '../../strategies/strategy.js'
import { type Task, taskRules } from '../../tasks/index.js'
import { weightCacheSettings } from '../../weights/cache.js'
import { filesOfUser, RUN_FILE, readRun, recordRun, writeOwnFile } from './run-files.js'

/** File name of a run's event log. */
export const METRICS_FILE = 'metrics.jsonl'
const CONFIG = 'config.yaml'
/** File name of a run's page. */
export const REPORT = 'report.html'
/** File name of the log-probabilities by the reference of a run. */
export const REFERENCE_FILE = 'reference.json'
/** Names of results that `heldIn` does not tell: those of an adapter, and of a model. */
const RESULT_FILE =
  /^(adapter_model\.safetensors|lowrank\.json|model(-\d{5}-of-\d{5})?\.safetensors(\.index\.json)?|generation_config\.json|tokenizer(_config)?\.json|tokenizer\.model|special_tokens_map\.json|added_tokens\.json|vocab\.json|merges\.txt|chat_template\.(jinja|json))$/
const ADAPTER_FILES = ['adapter_model.safetensors', 'lowrank.json']
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

/** Folder for temporary files of a run. */
export function scratchFolder(folders: RunFolders | null): string {
  return folders?.runDir ?? weightCacheSettings().folder
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

/** Saves the config of a run that has begun. */
export async function saveConfig(
  { outputDir, strategy }: { outputDir: string; strategy: StrategyConfig },
  text: string,
): Promise<void> {
  await writeOwnFile(foldersOf(outputDir, strategy).runDir, CONFIG, text)
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
  const isOwn = existsSync(join(path, RUN_FILE)) || !existsSync(apart)
  return { outputDir: path, runDir: isOwn ? path : apart }
}

function secretDir(outputDir: string): string {
  return join(outputDir, '..', `${basename(resolve(outputDir))}${SECRET}`)
}

function isApart({ outputDir, runDir }: RunFolders): boolean {
  return outputDir !== runDir
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
  await recordRun(runDir, run, METRICS_FILE)
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

/** What a run writes besides its checkpoints. */
export interface RunOutputs {
  /** Names of the files of the run itself. */
  files: readonly string[]
  result: 'adapter' | 'model'
}

/** @param saves what the run writes on request; the command line saves the config */
export function outputsOf(
  strategy: StrategyConfig,
  task: Task,
  { config, report }: { config: boolean; report: boolean },
): RunOutputs {
  const files = [RUN_FILE, METRICS_FILE]
  if (config) files.push(CONFIG)
  if (report) files.push(REPORT)
  if (taskRules(task).reference !== null) files.push(REFERENCE_FILE)
  return { files, result: rulesOf(strategy).saves ?? 'adapter' }
}

/**
 * @throws {ConfigError} naming the files that a run would overwrite though no run wrote them
 */
export async function checkFiles(
  { outputDir, runDir }: RunFolders,
  { files, result }: RunOutputs,
  { force, elsewhere }: WaysOn,
): Promise<void> {
  const names = await filesOfUser(runDir, files)
  const folder = names.length > 0 ? runDir : outputDir
  // With a config of an adapter or a model, they are the result of an earlier run.
  if (!['adapter_config.json', 'config.json'].some((name) => existsSync(join(outputDir, name))))
    for (const name of (await readdir(outputDir).catch((): string[] => [])).sort())
      if (result === 'model' ? RESULT_FILE.test(name) : ADAPTER_FILES.includes(name)) names.push(name)
  if (names.length === 0) return
  const listed = names.length === 1 ? names[0] : `${names.slice(0, -1).join(', ')} and ${names.at(-1)}`
  const [them, were] = names.length === 1 ? ['it', 'was'] : ['them', 'were']
  throw new ConfigError(
    `${folder} has ${listed}, which the run would overwrite, but which ${were} not written by a run, or ${were} changed since. Use ${elsewhere} to keep ${them}, rename ${them}, or use ${force} to replace ${them}.`,
    { folder, files: names },
  )
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
  const files = [METRICS_FILE, RUN_FILE, ...(names.includes(RUN_FILE) ? [CONFIG, REPORT] : [])]
  return names.filter((name) => files.includes(name) || isCheckpoint(name)).sort()
}

function isCheckpoint(name: string): boolean {
  return /^checkpoint-\d+$/.test(name.endsWith(REPLACED) ? name.slice(0, -REPLACED.length) : name)
}
