/** Paths of configs, and what is often given in place of one. */
import { existsSync, statSync } from 'node:fs'
import { FileFormatError } from '../../core/errors.js'
import { fileTypeByName } from '../../data/dataset.js'
import { nearFile } from '../../io/near-file.js'
import { savedConfigAt } from '../folders/output-folder.js'

const MODEL = /\.(gguf|safetensors)$/i
const DATA = ['jsonl', 'csv', 'tsv', 'parquet']

/** @throws {FileFormatError} for a path without a file, or of a folder, a model, or data */
export function checkConfigPath(path: string): void {
  const stats = statSync(path, { throwIfNoEntry: false })
  if (stats === undefined) {
    const close = nearFile(path, (name) => /\.(ya?ml|json)$/i.test(name))
    const advice = close === undefined ? 'expected a YAML or JSON file' : `did you mean ${close}?`
    throw new FileFormatError(`the config ${path} does not exist; ${advice}`, { path, nearest: close })
  }
  const other = (what: string, advice: string) =>
    new FileFormatError(`${path} is ${what}, not a config; ${advice}`, { path })
  if (stats.isDirectory()) {
    const saved = savedConfigAt(path)
    throw other('a folder', existsSync(saved) ? `name ${saved}` : 'name a YAML or JSON file')
  }
  if (MODEL.test(path))
    throw other('a model', `pass it as --model, or name it in a config, as in "model: ${path}"`)
  if (DATA.includes(fileTypeByName(path) ?? ''))
    throw other('data', `a config names it, as in "dataset: ${path}"`)
}
