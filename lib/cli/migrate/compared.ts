/** Results of a migration as they are shown: in its last event, on its page, and on a terminal. */
import type { MigratePageData } from '../../report/migrate-page.js'
import { fittedTable, formatCount } from '../format.js'
import type { GradedResults } from './grading.js'
import type { MigrationResults, ModelName } from './results.js'

/** Rows on the page; results.json has all. */
const MOST_SHOWN = 60

const LABELS: Readonly<Record<ModelName, string>> = {
  base: 'Base model',
  tuned: 'Tuned model',
  old: 'Old model',
}

type PageResults = Pick<MigratePageData, 'compared' | 'rows'>

export function rightShown({ models, pairs, rows }: MigrationResults, columns: number) {
  const test = ({ only_first, only_second, p }: MigrationResults['pairs'][number]['exact']) => ({
    ...{ onlyFirst: only_first, onlySecond: only_second, p },
  })
  const page: PageResults = {
    compared: {
      by: 'right answers',
      models: models.map(({ name, ...model }) => ({ label: LABELS[name], ...model })),
      pairs: pairs.map(({ first, second, rows, exact, normalized }) => ({
        ...{ first: LABELS[first], second: LABELS[second], rows },
        ...{ exact: test(exact), normalized: test(normalized) },
      })),
    },
    rows: differingFirst(rows, ({ exact }) => exact).map(({ prompt, expected, answers }) => ({
      ...{ prompt, expected },
      answers: answers.map(({ model, text }) => ({ label: LABELS[model], text })),
    })),
  }
  return {
    event: { event: 'migrated' as const, models, pairs },
    page,
    rows,
    text: rightText({ models, pairs }, columns),
  }
}

export function scoresShown({ models, pairs, rows }: GradedResults, columns: number) {
  const page: PageResults = {
    compared: {
      by: 'scores',
      models: models.map(({ name, ...model }) => ({ label: LABELS[name], ...model })),
      pairs: pairs.map(({ first, second, ...pair }) => ({
        ...{ first: LABELS[first], second: LABELS[second], ...pair },
      })),
    },
    rows: differingFirst(rows, ({ score }) => score).map(({ prompt, answers }) => ({
      prompt,
      answers: answers.map(({ model, text, score }) => ({ label: LABELS[model], text, score })),
    })),
  }
  return {
    event: { event: 'graded' as const, models, pairs },
    page,
    rows,
    text: scoresText({ models, pairs }, columns),
  }
}

/** The rows of the page: those on which models differ come first. */
function differingFirst<Answer, Row extends { answers: readonly Answer[] }>(
  rows: readonly Row[],
  worth: (answer: Row['answers'][number]) => unknown,
): Row[] {
  const differs = ({ answers }: Row) => new Set(answers.flatMap((one) => worth(one) ?? [])).size > 1
  return [...rows.filter(differs), ...rows.filter((row) => !differs(row))].slice(0, MOST_SHOWN)
}

/** The comparison for a terminal of this many columns. */
function rightText({ models, pairs }: Pick<MigrationResults, 'models' | 'pairs'>, columns: number): string {
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
    ...[exact.p, normalized.p].map(formatP),
  ])
  const right = [1, 2, 3, 4, 5]
  return [
    fittedTable([['', 'rows', 'word for word', 'normalized', 'F1'], ...shares], columns, right),
    '',
    'Rows that one model alone answers word for word, and McNemar’s exact p',
    fittedTable([['', 'rows', 'first', 'second', 'p', 'normalized'], ...tests], columns, right),
  ].join('\n')
}

function scoresText({ models, pairs }: Pick<GradedResults, 'models' | 'pairs'>, columns: number): string {
  const range = (interval: readonly number[] | null) =>
    interval === null ? '' : ` (${interval.map((end) => end.toFixed(3)).join(' to ')})`
  const means = models.map(({ name, answered, mean, interval }) => [
    LABELS[name],
    formatCount(answered),
    `${mean.toFixed(3)}${range(interval)}`,
  ])
  const tests = pairs.map(({ first, second, rows, mean, interval, p }) => [
    `${LABELS[first]}, ${LABELS[second].toLowerCase()}`,
    formatCount(rows),
    `${mean.toFixed(3)}${range(interval)}`,
    formatP(p),
  ])
  return [
    fittedTable([['', 'rows', 'mean score'], ...means], columns, [1, 2]),
    '',
    'Scores of the second model minus those of the first, and the p of Student’s paired t-test',
    fittedTable([['', 'rows', 'difference', 'p'], ...tests], columns, [1, 2, 3]),
  ].join('\n')
}

const formatP = (p: number) => (p < 0.001 ? p.toExponential(1) : p.toFixed(3))
