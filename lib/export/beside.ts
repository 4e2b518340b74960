/** Files in the folder of an export that replaces another: those of another format are refused, a user's are named. */
import { existsSync } from 'node:fs'
import { readdir } from 'node:fs/promises'
import { isModelFile } from '../base/model-folder.js'
import { ConfigError } from '../core/errors.js'
import { ADAPTER_FILE, MODEL_FILE, MODELFILE } from './ollama.js'

/** Files named in a message. */
const NAMED = 5

const isOtherExport = (name: string): boolean =>
  isModelFile(name) || [MODELFILE, MODEL_FILE, ADAPTER_FILE].includes(name)

/**
 * Refuses an adapter's folder with files of a model, whose tokenizer vLLM would take for the adapter's.
 * @throws {ConfigError} that names them
 */
export async function refuseModelBeside(path: string, format: string): Promise<void> {
  const others = (await namesIn(path)).filter(isOtherExport)
  if (others.length === 0) return
  throw new ConfigError(
    `${path} has files of another export, which ${format} does not replace: ${listed(others)}. Remove them, or choose another path.`,
    { path, files: others },
  )
}

/** A remark on files of a folder that an export did not write; none if it wrote them all. */
export async function keptBeside(path: string, files: readonly string[]): Promise<string[]> {
  const others = (await namesIn(path)).filter((name) => !files.includes(name))
  return others.length === 0 ? [] : [`${path} keeps files that this export did not write: ${listed(others)}`]
}

async function namesIn(path: string): Promise<string[]> {
  return existsSync(path) ? (await readdir(path)).sort() : []
}

function listed(names: readonly string[]): string {
  const rest = names.length - NAMED
  return names.slice(0, NAMED).join(', ') + (rest > 0 ? `, and ${rest} more` : '')
}
