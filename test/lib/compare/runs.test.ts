import { appendFileSync, cpSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { beforeAll, expect, test } from 'vitest'
import { compareRuns } from '../../../lib/compare/runs.js'
import { mcnemar } from '../../../lib/compare/statistics/index.js'
import { loadModel } from '../../../lib/model/load.js'
import { resolveConfig } from '../../../lib/train/config/config.js'
import { configText } from '../../../lib/train/config/config-schema.js'
import { tinyModel } from '../../e2e/tiny-model.js'
import { sweepTest } from '../../sweep.js'
import { scratchFolder } from '../scratch.js'

let folder: string
const at = (...names: string[]) => join(folder, ...names)

const rowsOf = (count: number, answer: (i: number) => string) =>
  Array.from({ length: count }, (_, i) => `${JSON.stringify({ prompt: `${i} is`, completion: answer(i) })}\n`)

/** Trains as the command line does, which leaves the configuration beside the adapter. */
async function run(name: string, more: Record<string, unknown>): Promise<void> {
  const raw = {
    ...{ model: tinyModel(), strategy: { name: 'lora', r: 8 }, dataset: at('rows.jsonl') },
    ...{
      eval_dataset: at('held-out.jsonl'),
      output_dir: at(name),
      max_steps: 60,
      learning_rate: 0.02,
    },
    ...{ max_seq_length: 32, per_device_train_batch_size: 4, eval_steps: 30 },
    ...more,
  }
  const config = resolveConfig(raw, { name: 'test', spelling: 'snake' }, folder)
  const model = await loadModel(config.model, { precision: config.precision })
  const adapter = await model.attach(config.strategy, { seed: config.seed })
  const { maxSteps, learningRate, maxSeqLength, perDeviceTrainBatchSize, evalSteps, evalFraction, seed } =
    config
  const { evalDataset, outputDir, chatTemplate } = config
  const options = {
    maxSteps,
    learningRate: learningRate as number,
    maxSeqLength,
    perDeviceTrainBatchSize,
    evalSteps,
    seed,
    outputDir,
    chatTemplate,
  }
  for await (const _ of adapter.train(config.dataset, { ...options, evalDataset, evalFraction }));
  writeFileSync(at(name, 'config.yaml'), configText(config))
  await model.dispose()
}

beforeAll(async () => {
  folder = scratchFolder()
  writeFileSync(at('rows.jsonl'), rowsOf(8, (i) => (i % 2 ? ' odd' : ' even')).join(''))
  writeFileSync(at('held-out.jsonl'), rowsOf(6, (i) => (i % 2 ? ' odd' : ' even')).join(''))
  await run('learned', {})
  await run('other', { learning_rate: 1e-6, strategy: { name: 'dora', r: 4 } })
})

sweepTest('runs have their curves, their answers on the same rows, and the p of McNemar', async () => {
  const { runs, rows, pairs, flips, shown } = await compareRuns([at('learned'), at('other')])
  const [learned, other] = runs
  expect(learned).toMatchObject({ strategy: 'lora', learningRate: 0.02, ended: true, lacks: null })
  expect(other).toMatchObject({ strategy: 'dora', learningRate: 1e-6 })
  expect(learned?.curve.map(([step]) => step)).toEqual(Array.from({ length: 60 }, (_, i) => i + 1))
  expect(learned?.evaluations.map(({ step }) => step)).toEqual([0, 30, 60])
  expect(learned?.evaluations.at(-1)?.loss).toBeLessThan(other?.evaluations.at(-1)?.loss as number)
  expect(rows).toBe(6)
  expect(learned?.items?.exactMatch).toBe(1)
  expect(other?.items?.exactMatch).toBe(0)
  expect(pairs).toEqual([{ first: 0, second: 1, onlyFirst: 6, onlySecond: 0, p: mcnemar(6, 0) }])
  expect(flips).toEqual([0, 1, 2, 3, 4, 5])
  expect(shown.length).toBe(5)
  for (const { row, prompt, expected, answers, matched } of shown) {
    expect([prompt, expected]).toEqual([`${row} is`, row % 2 ? ' odd' : ' even'])
    expect(answers[0]).toBe(expected)
    expect(answers[1]).not.toBe(expected)
    expect(matched).toEqual([true, false])
  }
})

sweepTest('a row is answered without the texts that the adapter has around its own prompts', async () => {
  const rows = [0, 1, 2, 3].map((i) => ({
    system: 'Parity.',
    instruction: `${i}`,
    output: i % 2 ? 'odd' : 'even',
  }))
  const asked = rows.map(({ system, instruction, output }) => ({
    prompt: `${system}\n\n### Instruction:\n${instruction}\n\n### Response:\n`,
    completion: output,
  }))
  const write = (name: string, all: object[]) =>
    writeFileSync(at(name), all.map((row) => `${JSON.stringify(row)}\n`).join(''))
  write('instructions.jsonl', rows)
  write('asked.jsonl', asked)
  const data = { dataset: at('instructions.jsonl'), eval_dataset: at('asked.jsonl'), chat_template: false }
  await run('told', { ...data, max_seq_length: 128 })
  await run('untold', { ...data, max_seq_length: 128, learning_rate: 1e-6 })
  const { runs, shown } = await compareRuns([at('told'), at('untold')])
  expect(runs[0]?.items?.exactMatch).toBe(1)
  expect(shown.map(({ answers }) => answers[0])).toEqual(asked.map(({ completion }) => completion))
})

test('a run without a configuration, or before its end, has its curve and says what it lacks', async () => {
  cpSync(at('learned'), at('program'), { recursive: true })
  rmSync(at('program', 'config.yaml'))
  cpSync(at('other'), at('begun'), { recursive: true })
  rmSync(at('begun', 'adapter_config.json'))
  const log = readFileSync(at('begun', 'metrics.jsonl'), 'utf8').split('\n')
  writeFileSync(at('begun', 'metrics.jsonl'), log.slice(0, 20).join('\n'))
  appendFileSync(at('begun', 'metrics.jsonl'), '\n{"event":"step","st')
  const { runs, rows, pairs, shown } = await compareRuns([at('program'), at('begun'), at('learned')])
  expect(runs[0]?.lacks).toContain('config.yaml')
  expect(runs[1]?.lacks).toContain('the run has not finished')
  expect(runs[1]).toMatchObject({ ended: false, trainLoss: null, items: null })
  expect(runs[1]?.curve.length).toBeGreaterThan(5)
  expect(runs[0]?.curve).toEqual(runs[2]?.curve)
  expect(runs[2]?.items?.exactMatch).toBe(1)
  expect([rows, pairs, shown]).toEqual([6, [], []])
})

sweepTest('runs with other held-out rows are refused, unless data is named', async () => {
  writeFileSync(at('longer.jsonl'), rowsOf(8, (i) => (i % 2 ? ' odd' : ' even')).join(''))
  cpSync(at('learned'), at('elsewhere'), { recursive: true })
  const text = readFileSync(at('elsewhere', 'config.yaml'), 'utf8')
  writeFileSync(at('elsewhere', 'config.yaml'), text.replaceAll('held-out.jsonl', 'longer.jsonl'))
  const both = [at('learned'), at('elsewhere')]
  await expect(compareRuns(both)).rejects.toThrow(/held out 6 rows and .*elsewhere 8 rows.*--dataset/)
  const { rows, pairs, flips } = await compareRuns(both, { dataset: at('longer.jsonl') })
  expect(rows).toBe(8)
  expect(flips).toEqual([])
  expect(pairs).toEqual([{ first: 0, second: 1, onlyFirst: 0, onlySecond: 0, p: 1 }])
})

test('what is no run, and a run alone, are refused', async () => {
  mkdirSync(at('empty'))
  await expect(compareRuns([at('learned')])).rejects.toThrow('two runs or more')
  await expect(compareRuns([at('learned'), at('empty')])).rejects.toThrow(
    /empty is not the output folder of a run/,
  )
  await expect(compareRuns([at('learned'), at('nowhere')])).rejects.toThrow(/nowhere does not exist/)
  cpSync(at('learned'), at('damaged'), { recursive: true })
  const log = readFileSync(at('damaged', 'metrics.jsonl'), 'utf8')
  writeFileSync(at('damaged', 'metrics.jsonl'), log.replace('"event":"step"', '"event"step'))
  await expect(compareRuns([at('learned'), at('damaged')])).rejects.toThrow(
    /metrics.jsonl, line \d+ is not JSON/,
  )
})
