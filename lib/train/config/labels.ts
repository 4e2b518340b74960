/** Reads the class names from data. */
import { badArgument } from '../../core/arguments.js'
import { ConfigError, DataError } from '../../core/errors.js'
import { type ClassificationRow, openDataset } from '../../data/dataset.js'
import { canReread, inputName } from '../../data/encode-dataset.js'
import { LabelCounts, mergeTwins } from '../../data/labels.js'
import { rowsOf } from '../../data/row-source.js'
import { taskRules } from '../../tasks/index.js'
import { inputOf } from '../rows/data.js'
import { type DatasetArgument, type DatasetConfig, datasetOf } from '../sources/data-sources.js'
import type { RunConfig } from './config.js'

const MOST_LABELS = 10_000

/**
 * The labels of `classification` rows, sorted, with numbers in numeric order: the `labels` option of
 * `loadModel`.
 * @throws {DataError} for fewer than two labels, or rows without a label
 * @throws {ConfigError} for data that can be read only once
 * @example const model = await loadModel('model', { labels: await readLabels('train.csv') })
 */
export async function readLabels(data: DatasetArgument): Promise<string[]> {
  return labelsOf(datasetOf(data, 'readLabels()'), 'readLabels()')
}

/** @param name the public function that reads the labels, for messages */
async function labelsOf(config: DatasetConfig, name: string): Promise<string[]> {
  const input = inputOf(config)
  const where = inputName(input)
  if (!canReread(input))
    throw badArgument(where, name, 'data', 'data that can be read again, or the labels beside it')
  const source =
    typeof input === 'object' && 'rows' in input ? { rows: rowsOf(input.rows), name: input.name } : input
  const found = new Set<string>()
  const counts = new LabelCounts(Number.POSITIVE_INFINITY)
  const { fileType, columns, header, encoding, stripLabels } = config
  const form = { format: 'classification', fileType, columns, header, encoding, stripLabels } as const
  for await (const row of openDataset(source, form)) {
    const { label } = row as ClassificationRow
    found.add(label)
    counts.add(label)
    if (found.size > MOST_LABELS)
      throw new ConfigError(
        `${where} has more than ${MOST_LABELS} labels; is "label" (columns.label) the column of classes?`,
        { path: where },
      )
  }
  const labels = stripLabels ? mergeTwins(counts.classes).map(({ label }) => label) : [...found]
  if (labels.length < 2)
    throw new DataError(
      `${where} has ${labels.length === 0 ? 'no rows' : `one label, ${labels[0]}`}; a classifier needs at least two.`,
      { path: where, labels },
    )
  const numeric = labels.every((label) => label.trim() !== '' && Number.isFinite(Number(label)))
  return labels.sort((a, b) => (numeric ? Number(a) - Number(b) : a < b ? -1 : 1))
}

/** A classifier's config with its labels; by default, those of the training data. */
export async function withLabels(config: RunConfig): Promise<RunConfig> {
  const { task, labels, dataset } = config
  if (!taskRules(task).classes || labels !== null) return config
  return { ...config, labels: await labelsOf(dataset, 'labels') }
}
