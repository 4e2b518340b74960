/** How much more than least each kernel moves, from the files that the native tests wrote, and the committed table of it. */
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { kernelsFolder } from './compile.mjs'

const tableFile = join(kernelsFolder, 'traffic.json')
/** Ratios may grow by this much before it is an error: tests of other shapes move them a little. */
const GROWTH = 1.02

/** {kernel: {loads, stores, shared_loads, shared_stores}}: ratios to the least, of each kernel's best launch of the larger. */
export function trafficOf(folder) {
  const largest = {}
  for (const file of readdirSync(folder)) {
    for (const [name, row] of Object.entries(JSON.parse(readFileSync(join(folder, file), 'utf8')))) {
      if (!(largest[name]?.work >= row.work)) largest[name] = row
    }
  }
  const table = {}
  for (const name of Object.keys(largest).sort()) {
    table[name] = {}
    for (const [key, pair] of Object.entries(largest[name])) {
      if (key === 'work' || pair[1] === 0) continue
      table[name][key] = Math.round((pair[0] / pair[1]) * 100) / 100
    }
  }
  return table
}

/** What exceeds the committed table, a line for each; what is not in it yet is left alone. */
export function moreTraffic(table) {
  const budgets = existsSync(tableFile) ? JSON.parse(readFileSync(tableFile, 'utf8')) : {}
  return Object.entries(table).flatMap(([name, row]) =>
    Object.entries(row)
      .filter(([key, value]) => budgets[name]?.[key] !== undefined && value > budgets[name][key] * GROWTH)
      .map(([key, value]) => `${name}: ${key} are ${value} times the least; at most ${budgets[name][key]}`),
  )
}

export function writeTraffic(table) {
  const rows = Object.entries(table).map(([name, row]) => `  "${name}": ${JSON.stringify(row)}`)
  writeFileSync(tableFile, `{\n${rows.join(',\n')}\n}\n`)
}
