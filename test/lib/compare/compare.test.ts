import { cpSync, existsSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { beforeAll, describe, expect, test } from 'vitest'
import { compareText } from '../../../lib/cli/compare-table.js'
import { compare } from '../../../lib/compare/compare.js'
import type { CompareEvent, CompareOptions } from '../../../lib/compare/options.js'
import type { CompareResults } from '../../../lib/compare/results.js'
import { readResults, writeResults } from '../../../lib/compare/results-file.js'
import { isCompare, reviewed } from '../../../lib/compare/review.js'
import { verifyCompare } from '../../../lib/compare/verify.js'
import { resolveConfig } from '../../../lib/train/config/config.js'
import { chats, tinyModel } from '../../e2e/tiny-model.js'
import { sweepTest } from '../../sweep.js'
import { checkLine } from '../cli/contract.js'
import { scratchFile, scratchFolder } from '../scratch.js'
import { timeless } from './timeless.js'

let model: string
let data: string
let held: string
beforeAll(() => {
  model = tinyModel()
  data = scratchFile('train.jsonl', chats(40))
  held = scratchFile('test.jsonl', chats(6))
})

function config(more: Record<string, unknown> = {}) {
  const base = {
    ...{ model, dataset: data, eval_dataset: held, strategy: { name: 'lora', r: 2 }, precision: 'fp32' },
    ...{ max_steps: 2, max_seq_length: 96, gradient_checkpointing: false, packing: false },
    output_dir: join(scratchFolder(), 'out'),
  }
  return resolveConfig({ ...base, ...more }, { name: 'test', spelling: 'snake' }, '/')
}

const small: CompareOptions = {
  ...{ strategies: ['lora-fa'], seeds: 2, controls: false, validationRows: 3, testRows: 4 },
  metrics: ['exact_match', 'f1'],
}

interface Places {
  model: string
  dataset: { path: string }
  eval_dataset: { path: string }
}

describe('a compare', () => {
  let folder: string
  let results: CompareResults
  const events: CompareEvent['event'][] = []
  let run: ReturnType<typeof config>
  beforeAll(async () => {
    run = config()
    folder = join(scratchFolder(), 'compared')
    results = await compare(run, { ...small, outputDir: folder, onEvent: ({ event }) => events.push(event) })
  })

  test('searches a rate for every entry, trains every seed, and tells the differences', () => {
    expect(results.entries.map(({ name }) => name)).toEqual(['lora', 'lora-fa'])
    for (const { search, cells, planned } of results.entries) {
      expect(search.rates.length).toBeGreaterThanOrEqual(7)
      expect(search.rates.map(({ rate }) => rate)).toContain(search.chosen)
      expect(cells.map(({ seed }) => seed)).toEqual([42, 43])
      for (const cell of cells) {
        expect(cell.items.loss).toHaveLength(4)
        expect(cell.items.predictions).toHaveLength(4)
        expect(cell.items.scores).toHaveProperty('f1')
        expect(cell.train_losses).toHaveLength(2)
        expect(cell.curve.at(-1)?.[0]).toBe(2)
        expect(cell.measured_peak.bytes).toBe(planned.bytes)
      }
    }
    expect(results.base?.items.loss).toHaveLength(4)
    expect(results.statistics?.loss?.against[0]).toMatchObject({
      name: 'lora-fa',
      p_holm: expect.any(Number),
    })
    expect(events).toEqual(expect.arrayContaining(['preparing', 'plan', 'rung', 'cell', 'done']))
  })

  test('validation rows are no test rows, and train rows neither', () => {
    const { train, validation, test } = results.data
    expect([train.rows, validation.rows, test.rows]).toEqual([37, 3, 4])
  })

  test('writes results.json by the published schema', async () => {
    checkLine('results', JSON.parse(readFileSync(join(folder, 'results.json'), 'utf8')))
    expect(await readResults(folder)).toEqual(results)
  })

  test('fits 80 columns as text', () => {
    const lines = compareText(results).split('\n')
    expect(
      Math.max(...lines.filter((line) => !line.endsWith('.')).map((line) => line.length)),
    ).toBeLessThanOrEqual(80)
    expect(lines[0]).toMatch(/^strategy +rate +loss +spread +group +exact +f1 +general$/)
  })

  sweepTest('has equal hashes when its cells are trained again', async () => {
    const { same, sameBinary, cells } = await verifyCompare(folder, { cells: 2 })
    expect({ same, sameBinary }).toEqual({ same: true, sameBinary: true })
    expect(cells).toHaveLength(2)
  })

  sweepTest('has equal hashes where the model and the data have moved', async () => {
    const moved = scratchFolder()
    const { model, dataset, eval_dataset: evalDataset } = results.settings as unknown as Places
    cpSync(model, join(moved, 'base'), { recursive: true })
    cpSync(dataset.path, join(moved, 'rows.jsonl'))
    cpSync(evalDataset.path, join(moved, 'held-out.jsonl'))
    const places = {
      model: join(moved, 'base'),
      dataset: join(moved, 'rows.jsonl'),
      eval_dataset: join(moved, 'held-out.jsonl'),
    }
    const overrides = Object.entries(places).map(([key, value]) => `${key}=${value}`)
    const { same } = await verifyCompare(folder, { cells: 1, overrides })
    expect(same).toBe(true)
    await expect(verifyCompare(folder, { overrides: ['max_steps=3'] })).rejects.toThrow(
      'max_steps=3 changes more than the places of the model and the data',
    )
    await expect(verifyCompare(folder, { overrides: ['dataset=/nowhere/rows.jsonl'] })).rejects.toThrow(
      /rows\.jsonl, the dataset of .*, is not there\. If it is elsewhere, say where: --set dataset=…/,
    )
    const there = await compare(config(places), { ...small, outputDir: join(moved, 'compare') })
    const hashesOf = ({ entries }: CompareResults) =>
      entries.flatMap(({ cells }) => cells.map(({ hash }) => hash))
    expect(hashesOf(there)).toEqual(hashesOf(results))
  })

  sweepTest('verification finds a cell that is another', async () => {
    const other = join(scratchFolder(), 'results.json')
    const changed = structuredClone(results)
    const cell = changed.entries[0]?.cells[0]
    if (cell) cell.rate *= 2
    await writeResults(join(other, '..'), changed)
    const { cells } = await verifyCompare(other)
    expect(cells.map(({ same }) => same)).toEqual([false, true, true, true])
  })

  test('stopped anywhere and resumed, it has the same results apart from times', async () => {
    const outputDir = join(scratchFolder(), 'stopped')
    // In the search, in the middle of a run, and between cells.
    for (const stop of ['rung', 'begin', 'cell'] as const) {
      const controller = new AbortController()
      const reason = new Error('stop')
      const onEvent = ({ event }: CompareEvent) => {
        if (event === stop) controller.abort(reason)
      }
      const again = { resume: stop !== 'rung', onEvent, signal: controller.signal }
      await expect(compare(run, { ...small, outputDir, ...again })).rejects.toBe(reason)
    }
    const resumed = await compare(run, { ...small, outputDir, resume: true })
    expect(timeless(resumed)).toEqual(timeless(results))
  })

  sweepTest('side by side with another process, it has the same results apart from times', async () => {
    const outputDir = join(scratchFolder(), 'two')
    const found = await compare(run, { ...small, outputDir, jobs: 2 })
    expect(timeless(found)).toEqual(timeless(results))
    const length = { name: 'length', score: () => 1 }
    await expect(
      compare(run, { ...small, outputDir, jobs: 2, metrics: [length], force: true }),
    ).rejects.toThrow('the metric length is a function')
  })

  test('another compare in the folder is refused, and what differs is named', async () => {
    const other = (more: CompareOptions, changed = run) =>
      compare(changed, { ...small, outputDir: folder, resume: true, ...more })
    await expect(other({ resume: false })).rejects.toThrow(/has the results of a compare; continue it with/)
    await expect(other({ seeds: 3 })).rejects.toThrow('another compare: seeds is 2 there and 3 here')
    await expect(other({}, config({ max_steps: 3 }))).rejects.toThrow('max_steps is 2 there and 3 here')
    const rows = scratchFile('other.jsonl', chats(50))
    await expect(other({}, config({ dataset: rows }))).rejects.toThrow(/another compare: dataset/)
  })

  test('a finished compare has its statistics anew, without the model and by another build', async () => {
    const outdated = structuredClone(results)
    outdated.statistics = null
    outdated.binary.hash = '0'.repeat(64)
    delete outdated.settings.seed
    const again = scratchFolder()
    await writeResults(again, outdated)
    const seen: string[] = []
    const onEvent = ({ event }: CompareEvent) => seen.push(event)
    const found = await compare(run, { ...small, outputDir: again, resume: true, onEvent })
    expect(found.statistics).toEqual(results.statistics)
    expect(seen).toEqual(['done'])
    expect(existsSync(join(again, 'compare.html'))).toBe(true)
    expect(await readResults(again)).toEqual(found)

    await writeResults(again, outdated)
    expect(isCompare(again)).toBe(true)
    expect(await reviewed(join(again, 'results.json'))).toEqual(found)
    expect(await readResults(again)).toEqual(found)
    outdated.entries[0]?.cells.pop()
    await writeResults(again, outdated)
    await expect(reviewed(again)).rejects.toThrow(/has cells that are not trained yet/)
  })

  test('results that were changed by hand are refused', async () => {
    const edited = scratchFolder()
    const text = readFileSync(join(folder, 'results.json'), 'utf8')
    writeFileSync(join(edited, 'results.json'), text.replace('"seed":42', '"seed":45'))
    await expect(readResults(edited)).rejects.toThrow(/was changed after lowrank wrote it/)
    await expect(compare(run, { ...small, outputDir: edited, resume: true })).rejects.toMatchObject({
      code: 'FILE_FORMAT',
    })
    writeFileSync(join(edited, 'results.json'), '{}')
    await expect(verifyCompare(edited)).rejects.toThrow(/is no result of a compare/)
  })
})

sweepTest('a config without held-out data, nothing to resume, and a small budget are errors', async () => {
  await expect(compare(config({ eval_dataset: null }), small)).rejects.toThrow('has no held-out data')
  await expect(compare(config(), { ...small, resume: true })).rejects.toThrow('there is nothing to resume')
  await expect(compare(config(), { ...small, budget: 1e-3 })).rejects.toThrow(/budget of .* is too small/)
})

sweepTest('a strategy that cannot be trained is an error where it is named', async () => {
  const embedding = config({
    strategy: { name: 'lora', r: 2, target_modules: ['q_proj', 'embed_tokens'] },
  })
  await expect(compare(embedding, { ...small, strategies: ['vera'] })).rejects.toMatchObject({
    code: 'UNSUPPORTED',
    message: expect.stringMatching(/^compare: strategy vera cannot be trained here: .*embed_tokens/),
  })
})
