/**
 * results.json: what checks saw of each platform, the last time that they were run with --record. The tables of docs/install.md and
 * README.md and the words of `lowrank doctor` are made of it (scripts/platform-tables.mjs).
 *
 *   addons     of scripts/prebuilds.mjs: each file that was built and checked, by target
 *   tests      of scripts/target-tests.mjs: native tests, by target
 *   runtimes   of scripts/platforms.mjs: the application under other programs
 *   demos      of scripts/demos.mjs: the package installed into an empty folder, and `lowrank demo` there
 *   installs   of scripts/install-matrix.mjs: every way to install it
 *
 * `under` names what stood between the file and the processor, such as "wine 8.0"; there is none on hardware.
 */
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import stringify from 'json-stringify-pretty-compact'

const file = join(import.meta.dirname, 'results.json')
const KINDS = ['addons', 'tests', 'runtimes', 'demos', 'installs']

export function results() {
  const known = existsSync(file) ? JSON.parse(readFileSync(file, 'utf8')) : {}
  return Object.fromEntries(KINDS.map((kind) => [kind, known[kind] ?? {}]))
}

/** Puts what a check saw in place of what it saw before. */
export function record(kind, name, seen) {
  const all = results()
  all[kind][name] = { date: new Date().toISOString().slice(0, 10), ...seen }
  for (const each of KINDS)
    all[each] = Object.fromEntries(Object.entries(all[each]).sort(([a], [b]) => (a < b ? -1 : 1)))
  // A line for each row of a table.
  writeFileSync(file, `${stringify(all, { maxLength: 400 })}\n`)
}
