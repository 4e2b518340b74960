import { expect, test } from 'vitest'
import { lowrank, printed } from './lowrank.js'

test('strategies are an array of those that exist, as JSON', async () => {
  const ended = await lowrank(['strategies', '--json'])
  expect(ended.code).toBe(0)
  const [list = []] = printed<'strategies'>(ended)
  expect(list.map(({ name }) => name)).toEqual(expect.arrayContaining(['lora', 'qlora']))
  for (const { paper, bases } of list) {
    expect(paper).toMatch(/^(arXiv \d{4}\.\d{5}|OpenReview \w+)$/)
    expect(bases).not.toEqual([])
  }
})

test('people get a table with a line per strategy and its paper', async () => {
  const { code, stdout } = await lowrank(['strategies'])
  expect(code).toBe(0)
  expect(stdout).toMatch(/^NAME +PAPER/)
  expect(stdout).toMatch(/^qlora +arXiv 2305\.14314/m)
})
