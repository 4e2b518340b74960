import { posix, win32 } from 'node:path'
import { describe, expect, it } from 'vitest'
import { readPattern } from '../../../../lib/data/dataset/files.js'

describe('a pattern', () => {
  it.each([
    ['data/*.jsonl', 'data', 'a.jsonl', 'b/a.jsonl'],
    ['/*.csv', '/', 'a.csv', 'b/a.csv'],
    ['*.csv', '.', 'a.csv', 'A.CSV'],
    ['data/**/part-?.csv', 'data', 'x/y/part-1.csv', 'x/y/part-10.csv'],
    ['data\\*.csv', '.', 'data\\a.csv', 'data/a.csv'],
  ])('%s begins in a folder', (pattern, base, inside, outside) => {
    const read = readPattern(pattern, posix)
    expect(read.base).toBe(base)
    expect([inside, outside].map((file) => read.expression.test(file))).toEqual([true, false])
  })

  it.each([
    ['data\\*.jsonl', 'data', 'a.jsonl', 'b/a.jsonl'],
    ['data/sub\\**/*.jsonl', 'data\\sub', 'x/A.JSONL', 'x/a.json'],
    ['C:\\data\\*.csv', 'C:\\data', 'a.csv', 'a.csv.gz'],
    ['C:/*.csv', 'C:/', 'a.csv', 'b/a.csv'],
    ['\\\\server\\share\\*.csv', '\\\\server\\share\\', 'a.csv', 'b/a.csv'],
  ])('%s begins in a folder on Windows', (pattern, base, inside, outside) => {
    const read = readPattern(pattern, win32)
    expect(read.base).toBe(base)
    expect([inside, outside].map((file) => read.expression.test(file))).toEqual([true, false])
  })
})
