/** Migrations with a grader: the config of the run, and scores of answers. */
import { relative } from 'node:path'
import type * as z from 'zod'
import { compareScores } from '../../compare/index.js'
import { type Grader, graded } from '../../serve/index.js'
import type { ChosenModel } from '../init/config.js'
import type { scoredShape } from '../schemas/migrate.js'
import type { SavedAnswer } from './folder.js'
import type { OldAnswers } from './old-answers.js'
import { answersOf, type ModelName, namesOf, type RowAnswer, shownRow } from './results.js'
import type { HeldOutRow } from './split.js'

/** Rows that a run should see, and passes over few of them, as jobs of `lowrank serve` have them. */
const ROWS_SEEN = 300
const [FEWEST_EPOCHS, MOST_EPOCHS] = [3, 10]

/**
 * The config of a run by rewards of the grader in the folder.
 * @param rows rows to train on
 */
export function rewardConfig(
  model: ChosenModel,
  data: string,
  folder: string,
  output: string,
  rows: number,
): string {
  const epochs = Math.min(MOST_EPOCHS, Math.max(FEWEST_EPOCHS, Math.ceil(ROWS_SEEN / rows)))
  const path = relative(folder, data).replaceAll('\\', '/')
  return `# yaml-language-server: $schema=./node_modules/lowrank/schemas/config.schema.json
# Written by lowrank migrate. docs/config.md of the package explains every key.

model: ${JSON.stringify(model.name)} # ${model.why}
task: grpo # learn from the scores of sampled answers
reward_functions: grader.json # scores the answers
num_generations: 8 # answers to a prompt, which are compared with each other
max_completion_length: 128 # most tokens of an answer
strategy: { name: lora, r: 16, lora_alpha: 32 }

dataset: ${JSON.stringify(path)}
eval_fraction: 0.1 # rows to choose the best step by
eval_steps: 10
metric_for_best_model: reward
load_best_model_at_end: true

learning_rate: 3.0e-4 # lower than for training on answers
max_seq_length: 1024 # tokens of a prompt and an answer
per_device_train_batch_size: 4 # prompts of a step
num_train_epochs: ${epochs}
output_dir: ${JSON.stringify(output)}
`
}

/** A held-out row with its answers and their scores. */
export interface GradedRow {
  id: string
  prompt: string
  answers: (RowAnswer & { score: number | null })[]
}

export interface GradedResults extends z.infer<z.ZodObject<typeof scoredShape>> {
  rows: GradedRow[]
}

export function gradedResultsOf(
  rows: readonly HeldOutRow[],
  saved: readonly SavedAnswer[],
  old: OldAnswers | undefined,
  grader: Grader,
): GradedResults {
  const names = namesOf(old)
  const answers = rows.map((row, index) =>
    answersOf(names, row, index, saved, old).map((answer) => ({
      ...answer,
      score:
        answer.text === null ? null : graded(grader, { output: answer.text, item: row.item ?? {} }).reward,
    })),
  )
  const { scores, pairs } = compareScores(
    answers.map((row) => row.map(({ score }) => score)),
    names.length,
  )
  const named = (index: number) => names[index] as ModelName
  return {
    models: scores.map((score, index) => ({ name: named(index), ...score })),
    pairs: pairs.map(({ first, second, ...pair }) => ({
      ...{ first: named(first), second: named(second) },
      ...pair,
    })),
    rows: rows.map((row, index) => {
      const { id, prompt } = shownRow(row)
      return { id, prompt, answers: answers[index] ?? [] }
    }),
  }
}
