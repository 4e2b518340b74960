/** `lowrank cache`: lists, checks and removes cached quantized weights. Also checks downloaded models. */
import { basename } from 'node:path'
import type { Command } from 'commander'
import { formatBytes } from '../core/bytes.js'
import { type HubBlob, isWhole, listHubBlobs } from '../hub/blobs.js'
import { hubSettings } from '../hub/settings.js'
import {
  listWeightFiles,
  makeRoom,
  ownWeightFolder,
  type WeightFileEntry,
  weightCacheSettings,
} from '../weights/cache.js'
import { hasItsBytes, removeWeightFile } from '../weights/record.js'
import { EXIT_FAILED, UsageError } from './errors.js'
import { counted, table } from './format.js'
import { examples } from './help.js'
import { Output } from './output.js'
import { StatusLine } from './progress.js'
import type { Printed } from './schemas.js'

type Report = Printed<'cache'>
type File = Report['files'][number]
type Downloads = NonNullable<Report['downloads']>

const ACTIONS = ['list', 'check', 'clear'] as const

export function configure(command: Command): void {
  command.argument('[action]', 'list, check, or clear; default list')
  command.argument('[name]', 'a model or a file; default all')
  examples(command, [
    'lowrank cache',
    'lowrank cache check',
    'lowrank cache clear SmolLM2-135M-Instruct',
    'lowrank cache clear',
  ])
  command.action(
    async (action: string | undefined, name: string | undefined, options: { json?: boolean }) => {
      const output = new Output(options.json ?? false)
      const report = await look(actionOf(action ?? 'list'), name, output)
      output.answer<'cache'>(report, () => describe(report))
      const all = [...report.files, ...(report.downloads?.files ?? [])]
      if (all.some(({ state }) => state === 'damaged')) process.exitCode = EXIT_FAILED
    },
  )
}

function actionOf(word: string): Report['action'] {
  const action = ACTIONS.find((known) => known === word)
  if (action === undefined)
    throw new UsageError(`unknown action '${word}' of lowrank cache, expected ${ACTIONS.join(', ')}.`)
  return action
}

async function look(action: Report['action'], name: string | undefined, output: Output): Promise<Report> {
  const settings = weightCacheSettings()
  const { folder, limitBytes } = settings
  const all = await listWeightFiles(folder)
  if (all.length > 0) await ownWeightFolder(folder)
  const left = action === 'list' ? await evicted(settings, all) : all
  const chosen = left.filter((file) => name === undefined || matches(file, name))
  const { cacheDir } = hubSettings()
  const blobs = action === 'check' ? await listHubBlobs(cacheDir) : []
  const downloaded = blobs.filter(({ repo }) => name === undefined || [repo, basename(repo)].includes(name))
  if (name !== undefined && chosen.length === 0 && downloaded.length === 0)
    throw new UsageError(`the cache in ${folder} has no entry for ${name}; lowrank cache lists the entries.`)
  const start = performance.now()
  const files: File[] = []
  for (const file of chosen) {
    if (action === 'clear') await removeWeightFile(file.path)
    const state = action === 'check' ? await stateOf(file) : undefined
    files.push({ ...described(file), ...(state === undefined ? {} : { state }) })
  }
  const bytes = files.reduce((sum, file) => sum + file.bytes, 0)
  const listed = { action, folder, limit_bytes: limitBytes, bytes, files }
  if (action !== 'check') return listed
  const downloads = { folder: cacheDir, ...(await checkDownloads(downloaded, output)) }
  return { ...listed, downloads, seconds: (performance.now() - start) / 1000 }
}

/** Reports damaged downloads without removing them, since other programs share the cache. lowrank does not use them. */
async function checkDownloads(blobs: readonly HubBlob[], output: Output): Promise<Omit<Downloads, 'folder'>> {
  const bytes = blobs.reduce((sum, { size }) => sum + size, 0)
  const line = new StatusLine(output, 'Checking downloads')
  let read = 0
  const files: Downloads['files'] = []
  try {
    for (const blob of blobs) {
      line.update(`${formatBytes(read)} of ${formatBytes(bytes)}`, read / Math.max(1, bytes))
      const { repo, names, hash, path, size } = blob
      const state = (await isWhole(blob)) ? 'whole' : 'damaged'
      files.push({ model: repo, names, hash, path, bytes: size, state })
      read += size
    }
  } finally {
    line.clear()
  }
  return { bytes, files }
}

/** Applies a limit that was lowered since the last run. */
async function evicted(
  settings: ReturnType<typeof weightCacheSettings>,
  all: WeightFileEntry[],
): Promise<WeightFileEntry[]> {
  if (all.length === 0) return all
  await makeRoom(settings, 0)
  return listWeightFiles(settings.folder)
}

function matches({ path }: WeightFileEntry, name: string): boolean {
  const file = basename(path)
  return file === name || described({ path, size: 0, used: 0 }).model === name
}

/** File names are `<model>.<quantization>.<key>.weights`; the model name may contain dots. */
function described({ path, size, used }: WeightFileEntry): Omit<File, 'state'> {
  const name = basename(path)
  const [, model = name, quantization = ''] = /^(.+)\.([^.]+)\.[0-9a-f]{16}\.weights$/.exec(name) ?? []
  return { name, model, quantization, bytes: size, last_used: new Date(used).toISOString() }
}

/** Removes a damaged file; it is made again when needed. */
async function stateOf({ path }: WeightFileEntry): Promise<'whole' | 'damaged'> {
  if (await hasItsBytes(path, true)) return 'whole'
  await removeWeightFile(path)
  return 'damaged'
}

function describe({ action, folder, limit_bytes, bytes, files, downloads, seconds }: Report): string {
  const total = `${counted(files.length, 'file')}, ${formatBytes(bytes)}`
  const rows = files.map(({ model, quantization, bytes: size, last_used, state }) => [
    model,
    quantization,
    formatBytes(size),
    last_used.slice(0, 16).replace('T', ' '),
    ...(state === undefined ? [] : [state === 'whole' ? 'whole' : 'damaged, removed']),
  ])
  const head = ['MODEL', 'HELD AS', 'SIZE', 'LAST USED', ...(action === 'check' ? ['STATE'] : [])]
  const last = {
    list: `${total} in ${folder}; limit ${formatBytes(limit_bytes)}.`,
    check: `Read ${total}, and ${counted(downloads?.files.length ?? 0, 'downloaded file')}, ${formatBytes(downloads?.bytes ?? 0)}, in ${(seconds ?? 0).toFixed(1)} s.`,
    clear: `Removed ${total} from ${folder}.`,
  }[action]
  const damaged = downloads?.files.filter(({ state }) => state === 'damaged') ?? []
  return [
    ...(files.length > 0 ? [table([head, ...rows], [2])] : []),
    ...damaged.map(
      ({ model, names, path }) =>
        `damaged: ${names.join(', ') || 'a file'} of ${model}, ${path}. lowrank will not use it: the next command that names ${model} downloads it again. Delete it to protect other programs.`,
    ),
    last,
  ].join('\n')
}
