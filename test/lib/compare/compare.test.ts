import { cpSync, existsSync, readFileSync, writeFileSync } from 'node:fs'
import { cpus } from 'node:os'
import { join } from 'node:path'
import { beforeAll, describe, expect, test } from 'vitest'
import { compareText } from '../../../lib/cli/compare-table.js'
import { compare } from '../../../lib/compare/compare.js'
import { describeData, readCompareData } from '../../../lib/compare/data.js'
import type { CompareEvent, CompareOptions } from '../../../lib/compare/options.js'
import { pageData, writePage } from '../../../lib/compare/page.js'
import { bitsOf, checkProof, meansOf } from '../../../lib/compare/proof.js'
import { recordVerified } from '../../../lib/compare/record-verified.js'
import type { CompareCell, CompareResults, CompareSearch } from '../../../lib/compare/results.js'
import { readResults, writeResults } from '../../../lib/compare/results-file.js'
import { isCompare, reviewed } from '../../../lib/compare/review.js'
import { mean } from '../../../lib/compare/training.js'
import { verifyCompare } from '../../../lib/compare/verify.js'
import { loadModel } from '../../../lib/model/load.js'
import { strategyToFile } from '../../../lib/strategies/index.js'
import { lora } from '../../../lib/strategies/lora.js'
import { resolveConfig } from '../../../lib/train/config/config.js'
import { lockRun } from '../../../lib/train/folders/run-lock.js'
import { chats, tinyModel } from '../../e2e/tiny-model.js'
import { sweepTest } from '../../sweep.js'
import { checkLine } from '../cli/contract.js'
import { scratchFile, scratchFolder } from '../scratch.js'
import { rehashed, resealed } from './resealed.js'
import { timeless } from './timeless.js'

let model: string
let data: string
let held: string
beforeAll(() => {
  model = tinyModel()
  data = scratchFile('train.jsonl', chats(40))
  held = scratchFile('test.jsonl', chats(6, 40))
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
    for (const { searches, cells, planned } of results.entries) {
      expect(searches.map(({ seed }) => seed)).toEqual([42, 43])
      for (const { rates, chosen } of searches) {
        expect(rates.length).toBeGreaterThanOrEqual(7)
        expect(rates.map(({ rate }) => rate)).toContain(chosen)
      }
      expect(cells.map(({ seed }) => seed)).toEqual([42, 43])
      for (const cell of cells) {
        expect(cell.items.loss).toHaveLength(4)
        expect(cell.items.predictions).toHaveLength(4)
        expect(cell.items.scores).toHaveProperty('f1')
        expect(cell.train_losses).toHaveLength(2)
        expect(cell.curve.at(-1)?.[0]).toBe(2)
        expect(cell.thirds.map(({ steps, loss }) => [steps, loss.length])).toEqual([[1, 4]])
        expect(cell.general_losses).toHaveLength(120)
        expect(cell.measured_peak.bytes).toBe(planned.bytes)
        if (process.platform !== 'win32') expect(cell.load?.cores).toBe(cpus().length)
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
    expect(lines[0]).toMatch(/^strategy +rate +loss +spread +to lora +exact +f1 +general$/)
  })

  sweepTest('has equal hashes when its cells are trained again', async () => {
    const { same, sameBinary, cells } = await verifyCompare(folder, { cells: 2 })
    expect({ same, sameBinary }).toEqual({ same: true, sameBinary: true })
    expect(cells).toHaveLength(2)
    const { verified = [], binary, hash } = await readResults(folder)
    expect(verified.map(({ id, same, level, addon }) => ({ id, same, level, addon }))).toEqual(
      cells.map(({ id }) => ({ id, same: true, level: binary.level, addon: binary.hash })),
    )
    expect(hash).not.toBe(results.hash)
    expect(readFileSync(join(folder, 'compare.html'), 'utf8')).toContain('2 of 4 cells were trained again')
    // A resumed compare that has all cells keeps the record.
    const { verified: kept } = await compare(run, { ...small, outputDir: folder, resume: true })
    expect(kept).toEqual(verified)
  })

  sweepTest('with a shorter general text, as of an earlier version, has equal hashes, too', async () => {
    const path = scratchFolder()
    const options = { validationRows: 3, testRows: 4, generalRows: 24, trainShare: 1, now: 0 }
    const opened = await loadModel(model, { precision: 'fp32' })
    const { general } = await readCompareData(opened.base, run, options).then((rows) =>
      describeData(rows, 42),
    )
    await opened.dispose()
    const older = rehashed(results, ({ data, entries }) => {
      data.general = general
      for (const cell of entries.flatMap(({ cells }) => cells)) {
        cell.general_losses.length = 24
        cell.general_loss = mean(cell.general_losses)
      }
    })
    expect(older.data.general.rows).toBe(24)
    await writeResults(path, older)
    const { same } = await verifyCompare(path, { cells: 1 })
    expect(same).toBe(true)
    const changed = rehashed(older, ({ data }) => (data.general.hash = '0'.repeat(64)))
    await writeResults(path, changed)
    await expect(verifyCompare(path)).rejects.toThrow('cannot be verified: the general text changed since')
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

  sweepTest('a training finds a cell that is another, and names the first value', async () => {
    const other = scratchFolder()
    await writeResults(
      other,
      resealed(results, ({ items }) => {
        items.loss[2] = 0.25
      }),
    )
    const { same, cells } = await verifyCompare(other)
    expect(same).toBe(false)
    expect(cells.map((cell) => cell.same)).toEqual([false, true, true, true])
    expect(cells[0]?.difference).toMatch(/^loss of test row 3 is 0\.25 there and \d\.\d+ here$/)
    expect(cells[1]?.difference).toBeNull()
    const { remarks, verified } = pageData(await readResults(other), 'other')
    expect(remarks.at(-1)).toMatch(
      /^lora\/42 was trained again .* with other bits: loss of test row 3 is 0\.25 /,
    )
    expect(verified).toMatch(/^3 of 4 cells were trained again with equal bits/)
  })

  test('what was verified is said by table and page, until the cell is another', async () => {
    const again = scratchFolder()
    const page = () => readFileSync(join(again, 'compare.html'), 'utf8')
    const shown = (all: CompareResults) => compareText(all).match(/^.*trained again.*$/gm) ?? []
    await writeResults(again, results)
    await writePage(again, results)
    expect(page()).toContain('Not verified yet: run lowrank compare verify results.json.')
    expect(shown(results)).toEqual([])

    const about = { at: '2026-05-01T10:00:00.000Z', level: 'avx2', addon: results.binary.hash }
    const [first, second] = (results.entries[0]?.cells ?? []) as [CompareCell, CompareCell]
    const equal = ({ id, hash: expected }: CompareCell) => ({
      ...{ id, expected, same: true, difference: null, ...about },
    })
    expect(await recordVerified(join(again, 'results.json'), [equal(first)])).toBeNull()
    const told = '1 of 4 cells was trained again with equal bits, on the instruction set avx2, on 2026-05-01.'
    expect(page()).toContain(`>${told}<`)
    expect(shown(await readResults(again))).toEqual([told])
    checkLine('results', JSON.parse(readFileSync(join(again, 'results.json'), 'utf8')))

    // The outcome of a repetition replaces the earlier one; a foreign one is not kept.
    const later = { ...about, at: '2026-05-02T10:00:00.000Z' }
    const other = { same: false, difference: 'loss of step 1 is 2 there and 1 here', ...later }
    const changed = { ...equal(second), expected: '0'.repeat(64) }
    await recordVerified(join(again, 'results.json'), [
      equal(second),
      { ...equal(first), ...other },
      { ...changed, addon: '1'.repeat(64) },
    ])
    const twice = await readResults(again)
    expect(twice.verified).toHaveLength(2)
    const wrong =
      'lora/42 was trained again on 2026-05-02 (avx2) with other bits: loss of step 1 is 2 there and 1 here.'
    expect(shown(twice)).toEqual([
      '1 of 4 cells was trained again with equal bits, on the instruction set avx2, from 2026-05-01 to 2026-05-02.',
      wrong,
    ])
    expect(page()).toContain(`<p class="note warn">${wrong}</p>`)
    expect(twice.entries).toEqual(results.entries)

    // Results that changed since have another hash, and the record says nothing about them.
    const anew = resealed(twice, ({ items }) => (items.loss[0] = 9))
    expect(shown(anew)).toEqual([
      '1 of 4 cells was trained again with equal bits, on the instruction set avx2, on 2026-05-01.',
    ])
    const lock = await lockRun(again)
    expect(await recordVerified(join(again, 'results.json'), [equal(first)])).toMatch(/^another run is in/)
    lock.release()
  })

  test('forged results are refused without a training, each for what is wrong', async () => {
    type Change = (parts: {
      all: CompareResults
      entry: CompareResults['entries'][number]
      cell: CompareCell
      rung: CompareResults['entries'][number]['searches'][number]['rates'][number]['rungs'][number]
    }) => void
    const half = (list: (number | null)[]) => {
      for (const [i, value] of list.entries()) list[i] = (value as number) / 2
    }
    const bits = 'the hash of the results of lora/42 \\(bits\\) is'
    const hash = 'the hash of lora/42 is'
    const forgeries: [Change, string][] = [
      [({ cell }) => half(cell.items.loss), 'a metric of lora/42 is'],
      [({ cell }) => (cell.metrics.loss = 0.1), 'a metric of lora/42 is'],
      [({ cell }) => cell.items.scores.exact_match?.fill(1), 'a metric of lora/42 is'],
      [({ cell }) => half(cell.train_losses), bits],
      [({ cell }) => (cell.general_loss = 0), 'the loss of lora/42 on the general text is'],
      [({ cell }) => half(cell.thirds[0]?.loss ?? []), bits],
      [({ cell }) => ((cell.curve[0] as [number, number])[1] = 0), bits],
      [({ cell }) => ((cell.items.predictions as string[])[0] = 'another'), bits],
      [
        ({ cell }) => {
          half(cell.items.loss)
          cell.metrics = meansOf(cell.items)
        },
        bits,
      ],
      [
        ({ cell }) => {
          cell.items.scores.f1?.fill(1)
          cell.metrics = meansOf(cell.items)
        },
        bits,
      ],
      [
        ({ cell }) => {
          half(cell.train_losses)
          cell.bits = bitsOf(cell)
        },
        hash,
      ],
      [({ cell }) => (cell.rate *= 2), 'the rate of lora/42 is'],
      [
        ({ entry }) => {
          const [search] = entry.searches as [CompareSearch]
          const other = search.rates.find(({ rate }) => rate !== search.chosen)?.rate as number
          search.chosen = other
          ;(entry.cells[0] as CompareCell).rate = other
        },
        'the chosen rate of lora with the seed 42 is',
      ],
      [
        ({ rung }) => (rung.loss = 0.1),
        'the loss of lora with the seed 42 after 2 steps of the search at \\S+ is 0.1',
      ],
      [({ cell }) => cell.items.loss.pop(), 'lora/42 has the loss of 3 rows, and the test has 4'],
      [({ cell }) => cell.items.predictions?.push('more'), 'lora/42 has the predictions of 5 rows'],
      [({ cell }) => (cell.seed = 7), 'lora/42 has the seed 7, which is not among the seeds'],
      [({ entry, cell }) => (entry.cells = [cell, structuredClone(cell)]), 'lora has a seed twice'],
      [({ cell }) => (cell.id = 'dora/42'), 'the id of the cell of lora and the seed 42 is'],
      [({ cell }) => cell.train_losses.push(1), 'the number of steps of lora/42 is 2, and 3'],
      [({ entry }) => (entry.name = 'lora-fa'), 'two entries are named alike'],
      [({ entry }) => entry.searches.pop(), 'the list of seeds with a search of lora is \\[42\\]'],
      [
        ({ all }) => {
          all.seeds.pop()
          for (const entry of all.entries) {
            entry.cells.pop()
            entry.searches.pop()
          }
        },
        'there are 1 seeds, 2 were asked for, and no cut is told',
      ],
      [({ entry }) => (entry.strategy.r = 4), hash],
      [({ entry }) => (entry.steps = 3), hash],
      [({ entry }) => (entry.base_format = 'nf4'), hash],
      [({ all }) => (all.settings.lr_scheduler_type = 'linear'), hash],
      [({ all }) => (all.model.precision = 'bf16'), hash],
      [({ all }) => (all.data.test.hash = '0'.repeat(64)), hash],
      [({ all }) => (all.data.validation.rows = 2), hash],
      [({ all }) => half(all.base?.items.loss ?? []), 'a metric of the base is'],
      [({ all }) => ((all.statistics?.loss?.against[0] as { p: number }).p = 1e-6), 'a statistic of loss is'],
      [({ all }) => all.remarks.push('All is well.'), 'a remark is'],
    ]
    for (const [change, what] of forgeries) {
      const all = structuredClone(results)
      const entry = all.entries[0] as CompareResults['entries'][number]
      const [search] = entry.searches as [CompareSearch]
      const rung = search.rates.find(({ rate }) => rate === search.chosen)?.rungs[0]
      change({ all, entry, cell: entry.cells[0] as CompareCell, rung: rung as NonNullable<typeof rung> })
      const forged = scratchFolder()
      await writeResults(forged, all)
      await expect(verifyCompare(forged), what).rejects.toThrow(
        new RegExp(`results\\.json contradicts itself: ${what}[\\s\\S]*run the compare again with --force`),
      )
    }
    expect(() => checkProof(results, run, 'results.json')).not.toThrow()
    expect(() =>
      checkProof(
        resealed(results, ({ items }) => half(items.loss)),
        run,
        'results.json',
      ),
    ).not.toThrow()
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

  test('unfinished results of version 1 are not continued, and none are repeated', async () => {
    const old = structuredClone(results)
    old.version = 1
    old.binary.hash = '0'.repeat(64)
    const again = scratchFolder()
    await writeResults(again, old)
    await expect(verifyCompare(again)).rejects.toThrow(
      'is of version 1, whose rates and test rows were chosen',
    )
    old.entries[0]?.cells.pop()
    await writeResults(again, old)
    await expect(compare(run, { ...small, outputDir: again, resume: true })).rejects.toThrow(
      'was begun by an earlier version',
    )
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

test('an own entry is trained as given, and a resumed compare must repeat it', async () => {
  const run = config()
  const wide = { name: 'lora-wide', strategy: lora({ r: 4, loraAlpha: 4 }) }
  const outputDir = join(scratchFolder(), 'own')
  const asked = { ...small, seeds: 1, testRows: 2, outputDir, strategies: [wide] }
  const results = await compare(run, asked)
  expect(results.entries.map(({ name, strategy }) => [name, strategy.r])).toEqual([
    ['lora', 2],
    ['lora-wide', 4],
  ])
  expect(results.asked.strategies).toEqual([{ name: 'lora-wide', strategy: strategyToFile(wide.strategy) }])
  expect(
    pageData(results, 'own')
      .entries.map(({ label }) => label)
      .toSorted(),
  ).toEqual(['LoRA', 'lora-wide'])
  const again = { ...asked, resume: true }
  await expect(compare(run, again)).resolves.toMatchObject({ finished: results.finished })
  const wider = [{ ...wide, strategy: lora({ r: 8, loraAlpha: 4 }) }]
  await expect(compare(run, { ...again, strategies: wider })).rejects.toThrow(
    /another compare: strategies is .*"r":4.* there and .*"r":8/,
  )
  await expect(compare(run, { ...asked, strategies: [{ ...wide, name: 'a/b' }] })).rejects.toThrow(
    'strategies.0.name is "a/b", expected a name of letters',
  )
  await expect(compare(run, { ...asked, equal: 'bytes' })).rejects.toThrow('equal is bytes, but entry')
})

sweepTest('an own entry that cannot be trained is an error, also beside all', async () => {
  const strategy = lora({ r: 2, targetModules: ['nowhere'] })
  const asked = { ...small, strategies: ['all', { name: 'own', strategy }] }
  await expect(compare(config(), asked)).rejects.toThrow(/^compare: strategy own cannot be trained here/)
})

sweepTest('a config without held-out data, nothing to resume, and a small budget are errors', async () => {
  await expect(compare(config({ eval_dataset: null }), small)).rejects.toThrow(
    'has no held-out data, which strategies are compared on. Hold out a tenth of the rows with eval_fraction: 0.1 (--set eval_fraction=0.1)',
  )
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

test('test rows that are also rows to train on are an error that names the first', async () => {
  const both = scratchFile('both.jsonl', `${chats(5, 40)}${chats(2)}`)
  await expect(compare(config({ eval_dataset: both }), small)).rejects.toThrow(
    /2 of 4 test rows are also among the rows to train on; the first is .*both\.jsonl, line \d, the same as .*train\.jsonl, line \d/,
  )
})
