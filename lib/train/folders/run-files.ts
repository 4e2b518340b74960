/**
 * run.json in the folder of a run: the name of the run, and the files that runs have written beside it, with their
 * hashes. Anything else in the folder belongs to the user, and is not overwritten.
 */
import { createHash } from 'node:crypto'
import { existsSync } from 'node:fs'
import { lstat, open, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { writeFileWhole } from '../../io/atomic.js'
import { readJsonObject } from '../../io/input.js'

/** File name of the record. */
export const RUN_FILE = 'run.json'
const VERSION = 1
const SIZE_LIMIT = 1 << 16
/** Hashes kept of a file: a process that is killed leaves the file as it was before or as it should be. */
const HASHES = 2
/** First bytes of every line of an event log. */
const EVENT = '{"event":"'

interface RunRecord {
  version: typeof VERSION
  run: string
  /** SHA-256 of the last contents written to a file; none for the event log, which grows. */
  files: Record<string, string[]>
}

/** The record of a folder; undefined if it has none, or a file of that name is something else. */
async function readRecord(runDir: string): Promise<(RunRecord & { isOlder: boolean }) | undefined> {
  const about = await readJsonObject(join(runDir, RUN_FILE), SIZE_LIMIT).catch(() => undefined)
  if (typeof about?.run !== 'string') return undefined
  const files = (about.files ?? {}) as RunRecord['files']
  return { version: VERSION, run: about.run, files, isOlder: about.files === undefined }
}

/** The run that a folder belongs to; undefined if it is not recorded. */
export async function readRun(runDir: string): Promise<string | undefined> {
  return (await readRecord(runDir))?.run
}

async function writeRecord(runDir: string, run: string, files: RunRecord['files']): Promise<void> {
  const record: RunRecord = { version: VERSION, run, files }
  await writeFileWhole(join(runDir, RUN_FILE), `${JSON.stringify(record, null, 2)}\n`)
}

/**
 * Records that a folder belongs to a run.
 * @param log name of its event log
 */
export async function recordRun(runDir: string, run: string, log: string): Promise<void> {
  const files = (await readRecord(runDir))?.files ?? {}
  await writeRecord(runDir, run, { ...files, [log]: [] })
}

/** Writes a file of a run, after its hash has been recorded if the folder has a record. */
export async function writeOwnFile(runDir: string, name: string, text: string): Promise<void> {
  const record = await readRecord(runDir)
  if (record !== undefined) {
    const { run, files } = record
    const hashes = [...(files[name] ?? []).filter((hash) => hash !== hashOf(text)), hashOf(text)]
    await writeRecord(runDir, run, { ...files, [name]: hashes.slice(-HASHES) })
  }
  await writeFileWhole(join(runDir, name), text)
}

/** Those of some names in a folder that exist and were not written by a run, or were changed since. */
export async function filesOfUser(folder: string, names: readonly string[]): Promise<string[]> {
  const record = await readRecord(folder)
  const others: string[] = []
  for (const name of names) {
    const path = join(folder, name)
    const isThere = await lstat(path).then(
      () => true,
      () => false,
    )
    if (isThere && !(await isOwn(path, name, record))) others.push(name)
  }
  return others
}

async function isOwn(
  path: string,
  name: string,
  record: Awaited<ReturnType<typeof readRecord>>,
): Promise<boolean> {
  if (record === undefined || !existsSync(path)) return false
  if (name === RUN_FILE) return true
  const hashes = record.files[name]
  // Earlier versions recorded no files.
  if (hashes === undefined) return record.isOlder
  if (hashes.length === 0) return beginsAsLog(path)
  const text = await readFile(path, 'utf8').catch(() => undefined)
  return text !== undefined && hashes.includes(hashOf(text))
}

async function beginsAsLog(path: string): Promise<boolean> {
  const file = await open(path).catch(() => undefined)
  if (file === undefined) return false
  try {
    const bytes = Buffer.alloc(EVENT.length)
    const { bytesRead } = await file.read(bytes, 0, bytes.length, 0)
    return bytesRead === 0 || bytes.toString('utf8', 0, bytesRead) === EVENT
  } catch {
    return false
  } finally {
    await file.close()
  }
}

function hashOf(text: string): string {
  return createHash('sha256').update(text).digest('hex')
}
