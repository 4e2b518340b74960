/** Completions of held-out data have the spellings of the training data where those are labels. */
import { expect, test } from 'vitest'
import { prepareData } from '../../../../lib/train/rows/data.js'
import { datasetOf } from '../../../../lib/train/sources/data-sources.js'
import { scratchFile } from '../../scratch.js'
import { tinyLoader } from '../tiny-models.js'

const load = tinyLoader()

const pairs = (name: string, completions: readonly string[]) =>
  scratchFile(
    name,
    completions.map((completion) => `${JSON.stringify({ prompt: 'Good?', completion })}\n`).join(''),
  )

test('completions that are stripped have one spelling in training and held-out data', async () => {
  const model = await load()
  const data = (path: string) => datasetOf({ path, stripLabels: true }, 'train()')
  const sources = {
    dataset: data(pairs('train.jsonl', ['Yes', 'yes ', 'No', 'no', 'YES', ' NO'])),
    evalDataset: data(pairs('eval.jsonl', ['yes', 'NO', 'Perhaps'])),
    evalFraction: 0,
    holdOutGroups: false,
  }
  const options = {
    perDeviceTrainBatchSize: 1,
    maxSeqLength: 64,
    packing: false,
    trainOn: 'completions',
    seed: 1,
  }
  const { stats, evaluation, evaluationExamples } = await prepareData(model.base, sources, options as never)
  expect(stats.train?.classes).toEqual([
    { label: 'No', rows: 3 },
    { label: 'Yes', rows: 3 },
  ])
  expect(evaluation).not.toBeNull()
  const { data: held } = evaluationExamples ?? {}
  const answers = [0, 1, 2].map((row) => [...(held?.labels(row) ?? [])].filter((label) => label >= 0))
  const texts = await Promise.all(answers.map((ids) => model.tokenizer.decode(ids)))
  expect(texts).toEqual(['Yes', 'No', 'Perhaps'].map((text) => `${text}<|im_end|>`))
})
