/** The end of a migration: results.json, the page, the comparison as text, and the lines of code to change. */
import { basename } from 'node:path'
import { shellWord } from '../../core/system.js'
import { writeFileWhole } from '../../io/atomic.js'
import { type MigratePageData, migratePage } from '../../report/migrate-page.js'
import { rulesOf } from '../../strategies/index.js'
import type { RunConfig } from '../../train/config/config.js'
import { savedConfig } from '../../train/folders/output-folder.js'
import { facts, fittedTable, formatCount, shortPath } from '../format.js'
import { columnsFor } from '../live-lines.js'
import type { Output } from '../output.js'
import type { MigrationFolder, SavedAnswer } from './folder.js'
import type { OldAnswers } from './old-answers.js'
import { type MigrationResults, type ModelName, resultsOf } from './results.js'
import type { Split } from './split.js'

/** Rows on the page; results.json has all. */
const MOST_SHOWN = 60
const VERSION = 1

export const LABELS: Readonly<Record<ModelName, string>> = {
  base: 'Base model',
  tuned: 'Tuned model',
  old: 'Old model',
}

/** A migration whose answers are there. */
export interface Ended {
  /** Path of the data. */
  file: string
  config: RunConfig
  folder: MigrationFolder
  split: Split
  saved: readonly SavedAnswer[]
  old: OldAnswers | undefined
  plan: MigratePageData['plan']
  /** Name of the old model. */
  oldModel: string
}

export async function conclude(ended: Ended, output: Output): Promise<void> {
  const { folder, split, saved, old } = ended
  const results = resultsOf(split.heldOut, saved, old)
  const change = codeChange(ended)
  await writeFileWhole(folder.at('results'), `${JSON.stringify(fileOf(ended, results, change), null, 2)}\n`)
  await writeFileWhole(folder.at('page'), migratePage(pageOf(ended, results, change)))
  const { models, pairs } = results
  output.event<'migrate'>({
    ...{ event: 'migrated', results: folder.at('results'), page: folder.at('page') },
    ...{ models, pairs, change },
  })
  const places = facts([
    ['page', shortPath(folder.at('page'))],
    ['results', shortPath(folder.at('results'))],
  ])
  const text = comparedText(results, columnsFor(output.stdout))
  output.text(
    `\n${text}\n\n${places}\n\nServe it, and change three lines of your code:\n${change.map((line) => `  ${line}`).join('\n')}`,
  )
}

/** The command that serves the tuned model, and what changes in code that uses OpenAI's client. */
export function codeChange({ config, folder }: Pick<Ended, 'config' | 'folder'>): string[] {
  const isModel = rulesOf(config.strategy).saves === 'model'
  const served = isModel
    ? `--model ${shellWord(`${folder.name}=${shortPath(folder.runDir)}`)}`
    : shellWord(shortPath(savedConfig(config)))
  return [
    `npx lowrank serve ${served} --port 8000`,
    "baseURL: 'http://127.0.0.1:8000/v1',",
    'apiKey: process.env.LOWRANK_TOKEN, // the command prints it',
    `model: '${folder.name}',`,
  ]
}

const remarksOf = ({ folder, oldModel }: Ended) => [
  `To keep the name of the old model in your code, add --alias ${oldModel}=${folder.name} to the command.`,
  'Result files of jobs are plain CSV. Code that decodes what files.content returns from base64 must drop that call.',
]

function fileOf({ file, config, split, plan }: Ended, results: MigrationResults, change: readonly string[]) {
  const { rows, models, pairs } = results
  return {
    ...{ version: VERSION, data: basename(file), model: config.model, strategy: config.strategy.name },
    counts: {
      ...{ rows: split.rows, repeated: split.repeated },
      ...{ train: split.train.length, held_out: split.heldOut.length },
    },
    plan: { peak_bytes: plan.peakBytes, seconds: plan.seconds },
    ...{ models, pairs, rows, change },
  }
}

function pageOf(ended: Ended, results: MigrationResults, change: readonly string[]): MigratePageData {
  const { file, config, split, plan } = ended
  const test = ({ only_first, only_second, p }: MigrationResults['pairs'][number]['exact']) => ({
    ...{ onlyFirst: only_first, onlySecond: only_second, p },
  })
  return {
    ...{ title: basename(file), model: config.model, method: config.strategy.name, plan, change },
    remarks: remarksOf(ended),
    counts: {
      ...{ rows: split.rows, repeated: split.repeated },
      ...{ train: split.train.length, heldOut: split.heldOut.length },
    },
    models: results.models.map(({ name, ...model }) => ({ label: LABELS[name], ...model })),
    pairs: results.pairs.map(({ first, second, rows, exact, normalized }) => ({
      ...{ first: LABELS[first], second: LABELS[second], rows },
      ...{ exact: test(exact), normalized: test(normalized) },
    })),
    rows: differingFirst(results.rows)
      .slice(0, MOST_SHOWN)
      .map(({ prompt, expected, answers }) => ({
        ...{ prompt, expected },
        answers: answers.map(({ model, text }) => ({ label: LABELS[model], text })),
      })),
  }
}

function differingFirst(rows: MigrationResults['rows']): MigrationResults['rows'] {
  const differs = ({ answers }: MigrationResults['rows'][number]) =>
    new Set(answers.flatMap(({ exact }) => exact ?? [])).size > 1
  return [...rows.filter(differs), ...rows.filter((row) => !differs(row))]
}

/** The comparison for a terminal of this many columns. */
export function comparedText({ models, pairs }: MigrationResults, columns: number): string {
  const percent = (share: number) => (100 * share).toFixed(0)
  const shares = models.map(({ name, answered, exact, normalized, f1 }) => [
    LABELS[name],
    formatCount(answered),
    `${percent(exact.right / Math.max(1, answered))} % (${exact.interval.map(percent).join(' to ')})`,
    `${percent(normalized.right / Math.max(1, answered))} %`,
    f1.toFixed(2),
  ])
  const tests = pairs.map(({ first, second, rows, exact, normalized }) => [
    `${LABELS[first]}, ${LABELS[second].toLowerCase()}`,
    ...[rows, exact.only_first, exact.only_second].map(formatCount),
    ...[exact.p, normalized.p].map((p) => (p < 0.001 ? p.toExponential(1) : p.toFixed(3))),
  ])
  const right = [1, 2, 3, 4, 5]
  return [
    fittedTable([['', 'rows', 'word for word', 'normalized', 'F1'], ...shares], columns, right),
    '',
    'Rows that one model alone answers word for word, and McNemar’s exact p',
    fittedTable([['', 'rows', 'first', 'second', 'p', 'normalized'], ...tests], columns, right),
  ].join('\n')
}
