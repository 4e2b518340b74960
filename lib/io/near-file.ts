/** Suggests a file for a path that does not exist, which is often just misspelled or has another extension. */
import { readdirSync } from 'node:fs'
import { basename, dirname, join } from 'node:path'
import { nearest } from '../core/nearest.js'

/** The path with the most similar name in the same folder; undefined if none is close, or the folder is not readable. */
export function nearFile(path: string, suits: (name: string) => boolean): string | undefined {
  const [folder, name] = [dirname(path), basename(path)]
  // A link to a file that does not exist has the name itself.
  const others = namesIn(folder).filter((other) => other !== name && suits(other))
  const close = nearest(name, others)
  return close === undefined ? undefined : join(folder, close)
}

function namesIn(folder: string): string[] {
  try {
    return readdirSync(folder)
  } catch {
    return []
  }
}
