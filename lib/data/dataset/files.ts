/**
 * Finds the files of a dataset and their types. A path may be a file, a folder, a pattern, or `-` for standard
 * input. The type is taken from the file name, or else from the first bytes.
 */
import type { Stats } from 'node:fs'
import { readdir, stat } from 'node:fs/promises'
import ownPath, { join, relative, sep } from 'node:path'
import { FileFormatError } from '../../core/errors.js'
import { nearFile } from '../../io/near-file.js'

export const FILE_TYPES = ['jsonl', 'json', 'csv', 'tsv', 'parquet', 'text', 'lines'] as const
export type FileType = (typeof FILE_TYPES)[number]

/** Path that means standard input. */
export const STDIN = '-'
/** Name of standard input in messages. */
export const STDIN_NAME = 'standard input'

const EXTENSIONS: Record<string, FileType> = {
  jsonl: 'jsonl',
  ndjson: 'jsonl',
  json: 'json',
  csv: 'csv',
  tsv: 'tsv',
  tab: 'tsv',
  parquet: 'parquet',
  pq: 'parquet',
  txt: 'text',
  text: 'text',
  md: 'text',
}

const MOST_FILES = 1_000_000
const DEEPEST_FOLDER = 32

/** The type for a file name. A `.gz` suffix is ignored, except for Parquet, which is compressed internally. */
export function fileTypeByName(path: string): FileType | undefined {
  const [, extension = '', packed] = /\.([a-z]+)(\.gz)?$/i.exec(path) ?? []
  const type = EXTENSIONS[extension.toLowerCase()]
  return packed && type === 'parquet' ? undefined : type
}

const SPREADSHEET = /\.(xlsx|xlsm|xlsb|xls|ods|numbers)$/i

/** @throws {FileFormatError} for the file of a spreadsheet, by its name */
export function refuseSpreadsheet(path: string): void {
  const [, extension] = SPREADSHEET.exec(path) ?? []
  if (extension !== undefined)
    throw new FileFormatError(
      `${path} is a spreadsheet (.${extension.toLowerCase()}), which cannot be read; save the sheet as CSV (in Excel: Save As, CSV UTF-8)`,
      { path },
    )
}

/**
 * The files that paths refer to, sorted by name within each path.
 * @param type type of the files to select in folders; undefined if it must follow from the folder's content
 * @throws {FileFormatError} when a path does not exist, a pattern matches nothing, or a folder has no data
 * files or several types of them
 */
export async function expandPaths(paths: readonly string[], type: FileType | undefined): Promise<string[]> {
  const files: string[] = []
  for (const path of paths) {
    const stats = path === STDIN ? undefined : await stat(path).catch(() => undefined)
    if (stats?.isDirectory()) files.push(...(await folderFiles(path, type)))
    else if (path !== STDIN && stats === undefined && /[*?]/.test(path)) files.push(...(await matching(path)))
    else {
      const close = path === STDIN || stats ? undefined : nearFile(path, (name) => !!fileTypeByName(name))
      if (close !== undefined)
        throw new FileFormatError(`${path} does not exist; did you mean ${close}?`, { path, nearest: close })
      files.push(path)
    }
  }
  return files
}

async function folderFiles(folder: string, type: FileType | undefined): Promise<string[]> {
  const byType = new Map<FileType, string[]>()
  for (const path of await filesUnder(folder)) {
    const found = fileTypeByName(path)
    if (found !== undefined) byType.set(found, [...(byType.get(found) ?? []), path])
  }
  // Text files beside data are probably notes.
  if (byType.size > 1 && type !== 'text' && type !== 'lines') byType.delete('text')
  const sameNames = type === 'lines' ? 'text' : type
  const chosen = sameNames === undefined ? [...byType.keys()] : [sameNames].filter((one) => byType.has(one))
  if (chosen.length === 0) {
    for (const file of await filesUnder(folder)) refuseSpreadsheet(file)
    throw new FileFormatError(
      `the folder ${folder} holds no ${sameNames ?? 'data'} files; expected ${Object.keys(EXTENSIONS).join(', ')}`,
      { path: folder },
    )
  }
  if (chosen.length > 1)
    throw new FileFormatError(
      `the folder ${folder} holds files of several types (${chosen.join(', ')}); set file_type, or select files with a pattern such as ${join(folder, `*.${chosen[0]}`)}`,
      { path: folder, types: chosen },
    )
  const files = byType.get(chosen[0] as FileType) ?? []
  refuseSplits(folder, files)
  return files
}

/** Refuses a folder of splits, since training on all of it would include the held-out files. */
function refuseSplits(folder: string, files: readonly string[]): void {
  const inFolder = files.map((file) => file.slice(folder.length))
  const held = inFolder.find((file) => /(^|[^a-z])(test|valid|validation|dev|eval)([^a-z]|$)/i.test(file))
  const train = inFolder.find((file) => /(^|[^a-z])train(ing)?([^a-z]|$)/i.test(file))
  if (held !== undefined && train !== undefined)
    throw new FileFormatError(
      `the folder ${folder} has training files (${train}) and held-out files (${held}); select files with a pattern such as ${join(folder, '**/*train*')}`,
      { path: folder },
    )
}

/** Regular files below a folder, sorted by name, without hidden files and without following links to folders. */
async function filesUnder(folder: string): Promise<string[]> {
  const files: string[] = []
  const visit = async (at: string, depth: number): Promise<void> => {
    if (depth > DEEPEST_FOLDER) throw new FileFormatError(`${at} is nested too deeply`, { path: at })
    const entries = await readdir(at, { withFileTypes: true })
    for (const entry of entries.sort((a, b) => (a.name < b.name ? -1 : 1))) {
      const path = join(at, entry.name)
      if (entry.name.startsWith('.')) continue
      if (entry.isDirectory()) await visit(path, depth + 1)
      else if (entry.isFile() || (entry.isSymbolicLink() && (await statOf(path))?.isFile())) files.push(path)
      if (files.length > MOST_FILES)
        throw new FileFormatError(`${folder} holds more than ${MOST_FILES} files`, { path: folder })
    }
  }
  await visit(folder, 0)
  return files
}

function statOf(path: string): Promise<Stats | undefined> {
  return stat(path).catch(() => undefined)
}

/**
 * Files that match a pattern: `*` and `?` match within a name, `**` matches any number of folders. On Windows,
 * patterns may use both kinds of slashes, and ignore case.
 */
async function matching(pattern: string): Promise<string[]> {
  const { base, expression } = readPattern(pattern)
  const isFolder = (await statOf(base))?.isDirectory() === true
  const found = isFolder
    ? (await filesUnder(base)).filter((file) => expression.test(relative(base, file).split(sep).join('/')))
    : []
  if (found.length === 0) throw new FileFormatError(`no file matches ${pattern}`, { path: pattern })
  return found
}

/** The base folder of a pattern, and a regular expression for paths below it, with forward slashes. */
export function readPattern(
  pattern: string,
  path: { sep: string; parse(path: string): { root: string } } = ownPath,
): { base: string; expression: RegExp } {
  const isWindows = path.sep === '\\'
  const { root } = path.parse(pattern)
  const parts = pattern.slice(root.length).split(isWindows ? /[\\/]/ : '/')
  const fixed = parts.findIndex((part) => /[*?]/.test(part))
  const inside = parts.slice(fixed)
  const expression = inside
    .map((part, i) => {
      const last = i === inside.length - 1
      if (part === '**') return last ? '.*' : '(?:[^/]+/)*'
      const name = part
        .replace(/[.+^${}()|[\]\\]/g, '\\$&')
        .replace(/\*+/g, '[^/]*')
        .replace(/\?/g, '[^/]')
      return last ? name : `${name}/`
    })
    .join('')
  return {
    base: root + parts.slice(0, fixed).join(path.sep) || '.',
    expression: new RegExp(`^${expression}$`, isWindows ? 'i' : ''),
  }
}
