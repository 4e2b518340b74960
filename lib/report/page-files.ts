/** Scripts and styles of pages, as built by scripts/typescript.mjs, and the policy that allows them to run. */
import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { packageRoot } from '../core/root.js'

const FOLDER = join(packageRoot, 'dist', 'esm', 'report', 'page')

/** Reads a script or style of lib/report/page: `run-script.js`, `page.css`. */
export function pageFile(name: string): string {
  return readFileSync(join(FOLDER, name), 'utf8')
}

/** A Content-Security-Policy source that allows only this script or style. */
export function sourceHash(content: string): string {
  return `'sha256-${createHash('sha256').update(content).digest('base64')}'`
}

/** JSON for a script element, escaped so that the data cannot close it. */
export function scriptData(value: unknown): string {
  return JSON.stringify(value)
    .replace(/</g, '\\u003c')
    .replace(/\u2028/g, '\\u2028')
    .replace(/\u2029/g, '\\u2029')
}
