/**
 * Text output of `lowrank compare RUN RUN…`: the finished runs, their losses by step, and rows with different
 * answers.
 */
import { basename, resolve } from 'node:path'
import { type ComparedRun, type ComparedRuns, compareRuns, type FlippedRow } from '../compare/index.js'
import { counted, digits, fittedTable, formatCount, shortPath } from './format.js'
import { Interruption } from './interrupt.js'
import { columnsFor } from './live-lines.js'
import { type Output, printable } from './output.js'
import { shown } from './progress.js'
import { brokenText } from './samples.js'

/** Most steps printed. */
const STEPS = 8
/** Most lines of a printed text; JSON has the whole text. */
const MOST_LINES = 4

/** Compares the runs in these folders. */
export async function finishedRuns(
  folders: readonly string[],
  dataset: string | undefined,
  output: Output,
): Promise<void> {
  const interruption = new Interruption(output, 'Stopping.')
  const { signal } = interruption
  try {
    const found = await shown(output, 'Evaluating', (line) =>
      compareRuns(folders, {
        ...{ dataset, signal },
        onWarning: (message) => output.note(`note: ${message}`),
        onProgress: (folder, done, total) =>
          line.update(`${shortPath(folder)}, ${done} of ${total} rows`, done / total),
      }),
    )
    output.event<'compare'>({ event: 'runs', ...inFiles(found) })
    output.text(compareRunsText(found, columnsFor(output.stdout)))
  } finally {
    interruption.dispose()
  }
}

/** The comparison with keys as in files. */
function inFiles({ runs, rows, pairs, flips, shown }: ComparedRuns) {
  return {
    runs: runs.map(({ items, trainLoss, keptStep, learningRate, outputDir, ...run }) => ({
      ...run,
      ...{ output_dir: outputDir, learning_rate: learningRate, train_loss: trainLoss, kept_step: keptStep },
      items: items && {
        ...{ exact_match: items.exactMatch, interval: items.interval },
        ...{ mean_token_accuracy: items.meanTokenAccuracy, matched: items.matched },
      },
    })),
    rows,
    pairs: pairs.map(({ onlyFirst, onlySecond, ...pair }) => ({
      ...pair,
      ...{ only_first: onlyFirst, only_second: onlySecond },
    })),
    ...{ flips, shown },
  }
}

/** The whole comparison as text for a terminal of `columns` columns. */
export function compareRunsText(found: ComparedRuns, columns: number): string {
  const { runs, pairs, flips, shown } = found
  const names = namesOf(runs)
  const lacks = runs.flatMap(({ lacks }) => (lacks === null ? [] : [`${lacks}.`]))
  return [
    summary(runs, names, columns),
    curves(runs, names, columns),
    ...(lacks.length > 0 ? [lacks.join('\n')] : []),
    ...(pairs.length > 0 ? [pairsText(found, names, columns)] : []),
    ...(shown.length > 0
      ? [
          [
            `${counted(flips.length, 'row')} answered differently${shown.length < flips.length ? `; the first ${shown.length}:` : ':'}`,
            ...shown.flatMap((row) => ['', ...rowLines(row, names, columns)]),
          ].join('\n'),
        ]
      : []),
  ].join('\n\n')
}

function pairsText({ pairs, rows }: ComparedRuns, names: readonly string[], columns: number): string {
  const head = ['first', 'second', 'only first', 'only second', 'p']
  const told = pairs.map(({ first, second, onlyFirst, onlySecond, p }) => [
    ...[names[first] as string, names[second] as string],
    ...[formatCount(onlyFirst), formatCount(onlySecond), pText(p)],
  ])
  return [
    `Rows of ${formatCount(rows ?? 0)} that one run alone answers word for word`,
    fittedTable([head, ...told], columns, [2, 3, 4]),
    'p is McNemar’s, of these adapters; it tells nothing of their methods.',
  ].join('\n')
}

/** Last components of the folder paths, or the whole paths if those are equal. */
function namesOf(runs: readonly ComparedRun[]): string[] {
  const short = runs.map(({ folder }) => basename(resolve(folder)))
  return short.map((name, i) =>
    short.filter((other) => other === name).length > 1 ? shortPath((runs[i] as ComparedRun).folder) : name,
  )
}

function summary(runs: readonly ComparedRun[], names: readonly string[], columns: number): string {
  const head = ['run', 'strategy', 'rate', 'steps', 'train', 'held-out', 'exact match']
  const rows = runs.map((run, i) => {
    const { strategy, learningRate, curve, trainLoss, items } = run
    const percent = (share: number) => (100 * share).toFixed(0)
    const match = items ? `${percent(items.exactMatch)} % (${items.interval.map(percent).join(' to ')})` : '–'
    return [
      names[i] as string,
      strategy ?? '–',
      learningRate === null ? '–' : String(learningRate),
      formatCount(curve.at(-1)?.[0] ?? 0),
      lossText(trainLoss),
      lossText(evaluationOf(run)?.loss),
      match,
    ]
  })
  return fittedTable([head, ...rows], columns, [2, 3, 4, 5])
}

/** The evaluation of the kept adapter: of the best step if it was kept, else the last one. */
function evaluationOf({ evaluations, keptStep }: ComparedRun) {
  return evaluations.find(({ step }) => step === keptStep) ?? evaluations.at(-1)
}

/** Losses by step: of evaluations if every run has them, else of training. */
function curves(runs: readonly ComparedRun[], names: readonly string[], columns: number): string {
  const evaluated = runs.every(({ evaluations }) => evaluations.length > 1)
  const points = runs.map(({ curve, evaluations }) =>
    evaluated ? new Map(evaluations.map(({ step, loss }) => [step, loss])) : new Map(curve),
  )
  const steps = [...new Set(points.flatMap((one) => [...one.keys()]))].sort((a, b) => a - b)
  const chosen = steps.filter((_, i) => steps.length <= STEPS || isSpread(i, steps.length))
  const rows = chosen.map((step) => [formatCount(step), ...points.map((one) => lossText(one.get(step)))])
  const right = [0, ...names.map((_, i) => i + 1)]
  const title = evaluated ? 'Held-out loss by step' : 'Training loss by step'
  return `${title}\n${fittedTable([['step', ...names], ...rows], columns, right)}`
}

/** True for the first index, the last, and some evenly spaced ones between them. */
function isSpread(index: number, count: number): boolean {
  const places = Array.from({ length: STEPS }, (_, i) => Math.round((i * (count - 1)) / (STEPS - 1)))
  return places.includes(index)
}

function rowLines(row: FlippedRow, names: readonly string[], columns: number): string[] {
  const told = [
    ['prompt', row.prompt, ''],
    ['expected', row.expected, ''],
    ...row.answers.flatMap((answer, i) =>
      answer === null ? [] : [[names[i] as string, answer, row.matched[i] ? ' ✓' : '']],
    ),
  ] as const
  const indent = 2 + Math.max(...told.map(([name = '']) => name.length)) + 2
  const width = Math.min(columns, 100)
  return [
    `row ${row.row + 1}`,
    ...told.flatMap(([name = '', text = '', mark = '']) => {
      const lines = brokenText(printable(text).trim(), Math.max(20, width - indent - 2))
      const shown = lines.length > MOST_LINES ? [...lines.slice(0, MOST_LINES - 1), '…'] : lines
      return shown.map(
        (line, i) =>
          `  ${(i === 0 ? name : '').padEnd(indent - 2)}${line}${i === shown.length - 1 ? mark : ''}`,
      )
    }),
  ]
}

function lossText(loss: number | null | undefined): string {
  if (loss === null || loss === undefined) return '–'
  return loss < 1 ? loss.toFixed(4) : digits(loss)
}

function pText(p: number): string {
  return p < 0.001 ? p.toExponential(1) : p.toFixed(3)
}
