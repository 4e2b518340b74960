/** The end of a migration: results.json, the page, the comparison as text, and the lines of code to change. */
import { basename } from 'node:path'
import { shellWord } from '../../core/system.js'
import { writeFileWhole } from '../../io/atomic.js'
import { type MigratePageData, migratePage } from '../../report/migrate-page.js'
import type { Grader } from '../../serve/index.js'
import { rulesOf } from '../../strategies/index.js'
import type { RunConfig } from '../../train/config/config.js'
import { savedConfig } from '../../train/folders/output-folder.js'
import { facts, shortPath } from '../format.js'
import { columnsFor } from '../live-lines.js'
import type { Output } from '../output.js'
import { rightShown, scoresShown } from './compared.js'
import type { MigrationFolder, SavedAnswer } from './folder.js'
import { gradedResultsOf } from './grading.js'
import type { OldAnswers } from './old-answers.js'
import { resultsOf } from './results.js'
import type { Split } from './split.js'

const VERSION = 1

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
  /** Scores answers; without one, they are compared with the expected ones. */
  grader: Grader | undefined
  /** Name of the old model. */
  oldModel: string
}

export async function conclude(ended: Ended, output: Output): Promise<void> {
  const { folder, split, saved, old, grader } = ended
  const change = codeChange(ended)
  const columns = columnsFor(output.stdout)
  const shown =
    grader === undefined
      ? rightShown(resultsOf(split.heldOut, saved, old), columns)
      : scoresShown(gradedResultsOf(split.heldOut, saved, old, grader), columns)
  const { event, rows, page, text } = shown
  const { models, pairs } = event
  const file = { ...factsOf(ended), models, pairs, rows, change }
  await writeFileWhole(folder.at('results'), `${JSON.stringify(file, null, 2)}\n`)
  await writeFileWhole(folder.at('page'), migratePage({ ...pageFacts(ended), ...page, change }))
  output.event<'migrate'>({ ...event, results: folder.at('results'), page: folder.at('page'), change })
  const places = facts([
    ['page', shortPath(folder.at('page'))],
    ['results', shortPath(folder.at('results'))],
  ])
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

/** Keys of results.json beside the results. */
function factsOf({ file, config, split, plan }: Ended) {
  return {
    ...{ version: VERSION, data: basename(file), model: config.model, strategy: config.strategy.name },
    counts: {
      ...{ rows: split.rows, repeated: split.repeated },
      ...{ train: split.train.length, held_out: split.heldOut.length },
    },
    plan: { peak_bytes: plan.peakBytes, seconds: plan.seconds },
  }
}

function pageFacts(ended: Ended) {
  const { file, config, split, plan } = ended
  return {
    ...{ title: basename(file), model: config.model, method: config.strategy.name, plan },
    remarks: remarksOf(ended),
    counts: {
      ...{ rows: split.rows, repeated: split.repeated },
      ...{ train: split.train.length, heldOut: split.heldOut.length },
    },
  }
}
