import { mkdtempSync } from 'node:fs'
import { cp, readFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { marginsOf } from '../../../lib/compare/margin.js'
import { readResults } from '../../../lib/compare/results-file.js'
import { reviewed } from '../../../lib/compare/review.js'
import { verdictBeside } from '../../../lib/compare/verdict.js'

const metrics = [{ name: 'loss' }, { name: 'f1' }]
const recorded = join(__dirname, '../../../docs/results/compare-demo.json')

test('one margin holds for all metrics, and 0 takes one away', () => {
  expect(marginsOf(0.02, metrics)).toEqual({ loss: 0.02, f1: 0.02 })
  expect(marginsOf({ f1: 0.1 }, metrics, { loss: 0.02 })).toEqual({ loss: 0.02, f1: 0.1 })
  expect(marginsOf({ loss: 0 }, metrics, { loss: 0.02, f1: 0.1 })).toEqual({ f1: 0.1 })
  expect(marginsOf(null, metrics, { loss: 0.02 })).toEqual({ loss: 0.02 })
  expect(() => marginsOf({ exact: 0.1 }, metrics)).toThrow('margin names "exact"')
})

test('results with letters of groups are read, and judged by verdicts', async () => {
  expect(await readFile(recorded, 'utf8')).toContain('"letters"')
  const { loss } = (await readResults(recorded)).statistics ?? {}
  expect(loss && verdictBeside(loss, 'full', 'lora')).toBe('better')
  expect(loss && verdictBeside(loss, 'lora', 'full')).toBe('worse')
  expect(loss && verdictBeside(loss, 'miss', 'adalora')).toBe('better')
  expect(loss && verdictBeside(loss, 'adalora', 'miss')).toBe('worse')
  expect(loss && verdictBeside(loss, 'lora', 'lora')).toBeNull()
})

test('a margin stays with the results until another replaces it', async () => {
  const file = join(mkdtempSync(join(tmpdir(), 'margin-')), 'results.json')
  await cp(recorded, file)
  const verdict = ({ statistics }: Awaited<ReturnType<typeof reviewed>>) =>
    statistics?.loss?.against.find(({ name }) => name === 'qlora')?.verdict
  expect(verdict(await reviewed(file))).toBe('cannot be told')
  expect(verdict(await reviewed(file, { loss: 0.2 }))).toBe('equal')
  expect(verdict(await reviewed(file))).toBe('equal')
  expect((await readResults(file)).margins).toEqual({ loss: 0.2 })
  expect(verdict(await reviewed(file, 0))).toBe('cannot be told')
})
