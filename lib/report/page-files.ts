/** Scripts and styles of pages, as the build leaves them (scripts/typescript.mjs), and the policy that lets them run. */
import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { packageRoot } from '../core/root.js'

const FOLDER = join(packageRoot, 'dist', 'esm', 'report', 'page')

/** A script or style of lib/report/page: `run-script.js`, `page.css`. */
export function pageFile(name: string): string {
  return readFileSync(join(FOLDER, name), 'utf8')
}

/** The source of a Content-Security-Policy that allows this script or style, and no other. */
export function sourceHash(content: string): string {
  return `'sha256-${createHash('sha256').update(content).digest('base64')}'`
}

/** Data as they stand in a script element of JSON: nothing in them ends it. */
export function scriptData(value: unknown): string {
  return JSON.stringify(value)
    .replace(/</g, '\\u003c')
    .replace(/\u2028/g, '\\u2028')
    .replace(/\u2029/g, '\\u2029')
}
