import { expect, test } from 'vitest'
import { busyRemarks, loadNow, loadSince } from '../../../lib/compare/load.js'
import type { CompareCell, CompareEntry } from '../../../lib/compare/results.js'

const remarks = (...loads: CompareCell['load'][]) => {
  const cells = loads.map((load) => ({ load }) as CompareCell)
  return busyRemarks({ entries: [{ cells } as CompareEntry] })
}

test('a load of more than the cores is remarked, at the beginning or the end of a cell, with the highest', () => {
  const quiet = { before: 0.2, after: 2.7, cores: 2 }
  expect(remarks(quiet, { before: 1.4, after: 1.5, cores: 1 }, { before: 60, after: 70, cores: 64 })).toEqual(
    [],
  )
  expect(remarks(quiet, { before: 0, after: 2.8, cores: 2 }, { before: 5.14, after: 1, cores: 2 })).toEqual([
    'Times were measured on a busy machine: load up to 5.1 on 2 cores, in 2 of 3 cells, so seconds and tokens per second are not comparable.',
  ])
  expect(remarks({ before: 70, after: 90, cores: 64 }, { before: 0, after: 2, cores: 1 })).toEqual([
    expect.stringContaining('load up to 2.0 on 1 core, in 2 of 2 cells'),
  ])
})

test('cells of earlier versions and of systems that count no load have none', () => {
  expect(remarks(undefined, { before: 9, after: 9, cores: 2 })).toEqual([
    expect.stringContaining('1 of 1 cells'),
  ])
  expect(remarks(undefined)).toEqual([])
  expect(loadSince(undefined)).toEqual({})
  const before = loadNow()
  if (process.platform === 'win32') expect(before).toBeUndefined()
  else expect(loadSince(before).load).toMatchObject({ before, cores: expect.any(Number) })
})
