/** Registers, stack, shared memory and instructions of compiled kernels, and the committed table that they must not exceed. */
import { execFileSync } from 'node:child_process'
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { CUBIN_TARGETS, kernelsFolder } from './compile.mjs'

const budgetFile = join(kernelsFolder, 'budgets.json')
/** Instructions are counted for this target, and may grow by this much before it is an error. */
const COUNTED_TARGET = 'sm_80'
const COUNT_GROWTH = 1.1
/** Products of tensor cores, their operands, copies beside the work, barriers, and what spills. */
const COUNTED = ['HMMA', 'LDSM', 'LDGSTS', 'BAR', 'LDL', 'STL']

/** {kernel: {registers, stack, shared}} of a cubin. */
function resourcesOf(file, cuobjdump) {
  const text = execFileSync(cuobjdump, ['--dump-resource-usage', file], { encoding: 'utf8' })
  const rows = text.matchAll(/Function (\w+):\s+REG:(\d+) STACK:(\d+) SHARED:(\d+) LOCAL:(\d+)/g)
  return Object.fromEntries(
    Array.from(rows, ([, name, registers, stack, shared, local]) => [
      name,
      { registers: Number(registers), stack: Number(stack) + Number(local), shared: Number(shared) },
    ]),
  )
}

/** {kernel: {instructions, HMMA, ...}} of a cubin; what a kernel does not have is left out. */
function instructionsOf(file, nvdisasm) {
  const text = execFileSync(nvdisasm, ['-c', file], {
    encoding: 'utf8',
    maxBuffer: 1 << 30,
    stdio: ['ignore', 'pipe', 'ignore'],
  })
  const found = {}
  for (const part of text.split(/^\.text\./m).slice(1)) {
    const name = part.slice(0, part.indexOf(':'))
    found[name] = { instructions: 0 }
    for (const [, opcode] of part.matchAll(/^\s+\/\*[0-9a-f]+\*\/\s+(?:@!?U?P\w+\s+)?(\w+)/gm)) {
      found[name].instructions += 1
      if (COUNTED.includes(opcode)) found[name][opcode] = (found[name][opcode] ?? 0) + 1
    }
  }
  return found
}

/**
 * The table of compiled jobs: {kernel: {registers: one for each of CUBIN_TARGETS, stack, shared, instructions, ...}}, with stack
 * and shared left out where they are 0 everywhere.
 */
export function tableOf(jobs, { cuobjdump, nvdisasm }) {
  const table = {}
  for (const { target, file } of jobs) {
    const column = CUBIN_TARGETS.indexOf(target)
    if (column < 0) continue
    for (const [name, resources] of Object.entries(resourcesOf(file, cuobjdump))) {
      table[name] ??= {}
      for (const [key, value] of Object.entries(resources)) {
        table[name][key] ??= CUBIN_TARGETS.map(() => 0)
        table[name][key][column] = value
      }
    }
    if (target !== COUNTED_TARGET) continue
    for (const [name, counts] of Object.entries(instructionsOf(file, nvdisasm)))
      Object.assign(table[name], counts)
  }
  for (const row of Object.values(table)) {
    for (const key of ['stack', 'shared']) if (row[key].every((value) => value === 0)) delete row[key]
  }
  return Object.fromEntries(Object.entries(table).sort(([a], [b]) => (a < b ? -1 : 1)))
}

/** The committed rows. */
export const budgetsOf = () =>
  existsSync(budgetFile) ? JSON.parse(readFileSync(budgetFile, 'utf8')).kernels : {}

/**
 * What of the table exceeds the committed one, a line for each, and kernels that are not in it. With `complete` also rows of
 * kernels that are gone.
 */
export function excesses(table, complete, budgets = budgetsOf()) {
  const found = []
  for (const [name, row] of Object.entries(table)) {
    const budget = budgets[name]
    if (!budget) {
      found.push(`${name}: in no row of the table`)
      continue
    }
    for (const key of ['registers', 'stack', 'shared']) {
      for (const [column, target] of CUBIN_TARGETS.entries()) {
        const value = row[key]?.[column] ?? 0
        const most = budget[key]?.[column] ?? 0
        if (value > most) found.push(`${name} on ${target}: ${key} ${value}; at most ${most}`)
      }
    }
    for (const key of ['instructions', ...COUNTED]) {
      const most = Math.floor((budget[key] ?? 0) * COUNT_GROWTH)
      if ((row[key] ?? 0) > most)
        found.push(`${name} on ${COUNTED_TARGET}: ${key} ${row[key]}; at most ${most}`)
    }
  }
  for (const name of complete ? Object.keys(budgets) : []) {
    if (!table[name]) found.push(`${name}: in the table, but in no source`)
  }
  return found
}

export function writeBudgets(table) {
  const rows = Object.entries(table).map(([name, row]) => `    "${name}": ${JSON.stringify(row)}`)
  const text = `{\n  "targets": ${JSON.stringify(CUBIN_TARGETS)},\n  "kernels": {\n${rows.join(',\n')}\n  }\n}\n`
  writeFileSync(budgetFile, text)
}
