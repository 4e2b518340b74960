/** Suggests a file for a path that does not exist, which is often just misspelled or has another extension. */
import { readdirSync, statSync } from 'node:fs'
import { basename, dirname, join } from 'node:path'
import { nearest } from '../core/nearest.js'

/** The path with the most similar name in the same folder; undefined if none is close. */
export function nearFile(path: string, suits: (name: string) => boolean): string | undefined {
  const folder = dirname(path)
  const isFolder = statSync(folder, { throwIfNoEntry: false })?.isDirectory() ?? false
  const close = nearest(basename(path), isFolder ? readdirSync(folder).filter(suits) : [])
  return close === undefined ? undefined : join(folder, close)
}
