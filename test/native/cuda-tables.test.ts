/** The committed tables of CUDA's kernels, held to the sources without a compiler. */
import { readdirSync, readFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { expect, test } from 'vitest'
import { budgetsOf, excesses } from '../../scripts/cuda/budgets.mjs'

const folder = resolve(import.meta.dirname, '../../native/backends/cuda')
const sources = readdirSync(folder)
  .filter((file) => file.endsWith('.cu'))
  .map((file) => readFileSync(join(folder, file), 'utf8'))
  .join('\n')
/** `scale_columns`, or `gemv_##format` for a kernel of each format. */
const declared = [...sources.matchAll(/LOWRANK_(?:KERNEL|GEMM)\(\s*([\w#]+)/g)]
  .map(([, name = '']) => name)
  .filter((name) => name !== 'name')
const budgets = budgetsOf()
const traffic: Record<string, object> = JSON.parse(readFileSync(join(folder, 'traffic.json'), 'utf8'))

test.each<[string, Record<string, object>]>([
  ['budgets.json', budgets],
  ['traffic.json', traffic],
])('%s has no row of a kernel that is in no source', (_file, rows) => {
  const names = declared.map((name) => new RegExp(`^${name.replace(/##\w+?(##|$)/g, '\\w+')}$`))
  expect(Object.keys(rows).filter((row) => !names.some((name) => name.test(row)))).toEqual([])
})

test('budgets.json has a row of every kernel', () => {
  expect(declared.length).toBeGreaterThan(100)
  expect(declared.filter((name) => !name.includes('#') && !(name in budgets))).toEqual([])
})

test('a kernel without a row, a row without a kernel, and more registers than a row allows are errors', () => {
  const row = (registers: number) => ({ registers: Array(6).fill(registers), instructions: 100 })
  expect(excesses({ kept: row(8) }, true, { kept: row(8) })).toEqual([])
  expect(excesses({ new: row(8) }, true, { gone: row(8) })).toEqual([
    'new: in no row of the table',
    'gone: in the table, but in no source',
  ])
  expect(excesses({ grown: row(9) }, false, { grown: row(8), elsewhere: row(8) })).toContain(
    'grown on sm_80: registers 9; at most 8',
  )
})
