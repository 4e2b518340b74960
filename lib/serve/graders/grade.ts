/** Grades answers: for the rewards of a run, and for those who try a grader. */
import { breather } from '../../core/breather.js'
import { rowError } from '../../data/dataset/place.js'
import { openDataset } from '../../data/dataset.js'
import { dataset } from '../../train/sources/data-sources.js'
import { type Grader, itemVariables, type TextGrader } from './grader.js'
import { filled, GraderProblem, type Observed, valueIn } from './templates.js'

/** Most characters of a text, so that no answer keeps the server busy. */
const MOST_CHARACTERS = 1 << 15

/** The reward of an answer. A grader that fails gives 0. */
export interface Graded {
  reward: number
  /** Rewards of the graders of a `multi`. */
  parts: Readonly<Record<string, number>>
  problems: readonly GraderProblem[]
}

export function graded(grader: Grader, observed: Observed): Graded {
  const problems: GraderProblem[] = []
  const attempt = (score: () => number): number => {
    try {
      return score()
    } catch (error) {
      if (!(error instanceof GraderProblem)) throw error
      problems.push(error)
      return 0
    }
  }
  if (grader.type !== 'multi') {
    const reward = attempt(() => scored(grader, observed))
    return { reward, parts: {}, problems }
  }
  const entries = Object.entries(grader.graders)
  const parts = Object.fromEntries(entries.map(([name, one]) => [name, attempt(() => scored(one, observed))]))
  const reward = attempt(() => finite(grader.formula(parts)))
  return { reward, parts, problems }
}

function scored({ input, reference, score }: TextGrader, observed: Observed): number {
  const texts = [filled(input, observed), filled(reference, observed)] as const
  for (const { length } of texts)
    if (length > MOST_CHARACTERS)
      throw new GraderProblem(
        'other_error',
        `a text has ${length} characters, and at most ${MOST_CHARACTERS} are graded`,
      )
  return score(...texts)
}

function finite(value: number): number {
  if (Number.isFinite(value)) return value
  throw new GraderProblem('other_error', `calculate_output is ${value}`)
}

/**
 * The rewards of a run by a grader. A row that lacks what the grader looks at is an error, and an answer that does gets 0.
 * @param name of the reward, and of its metric
 */
export function rewardBy(grader: Grader, name = 'reward') {
  const by = ({ prediction, item }: { prediction: string; item: Observed['item'] }): number => {
    const { reward, problems } = graded(grader, { output: prediction, item })
    const ofItem = problems.find((problem) => problem.ofItem)
    if (ofItem !== undefined) throw ofItem
    return reward
  }
  return Object.defineProperty(by, 'name', { value: name })
}

/** @throws {DataError} for the first row that lacks what the grader looks at, naming file and line */
export async function checkItems(path: string, grader: Grader): Promise<void> {
  const variables = itemVariables(grader)
  if (variables.length === 0) return
  const breathe = breather()
  for await (const row of openDataset(path, { ...dataset(path), asPrompts: true })) {
    const item = row.item ? (JSON.parse(row.item) as Observed['item']) : {}
    for (const variable of variables)
      try {
        valueIn(variable, { output: '', item })
      } catch (cause) {
        throw rowError(
          row,
          `${(cause as Error).message}, which the grader looks at; add it to the row`,
          cause,
        )
      }
    await breathe()
  }
}
