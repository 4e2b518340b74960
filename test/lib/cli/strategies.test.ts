import { expect, test } from 'vitest'
import * as z from 'zod'
import { jsonLines, lowrank } from './lowrank.js'

const entry = z.object({
  name: z.string(),
  paper: z.string().regex(/^arXiv \d{4}\.\d{5}$/),
  peft_type: z.string(),
  bases: z.array(z.string()).min(1),
  trainable: z.string().min(1),
})

test('strategies are an array of those that exist, as JSON', async () => {
  const { code, stdout } = await lowrank(['strategies', '--json'])
  expect(code).toBe(0)
  const [list] = jsonLines(stdout)
  const names = z
    .array(entry)
    .parse(list)
    .map(({ name }) => name)
  expect(names).toEqual(expect.arrayContaining(['lora', 'qlora']))
})

test('people get a table with a line per strategy and its paper', async () => {
  const { code, stdout } = await lowrank(['strategies'])
  expect(code).toBe(0)
  expect(stdout).toMatch(/^NAME +PAPER/)
  expect(stdout).toMatch(/^qlora +arXiv 2305\.14314/m)
})
