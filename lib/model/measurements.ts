/** Measurements of a model on data: the rows are read in the prompt format that its adapters were trained on. */
import type * as z from 'zod'
import { type ActiveAdapter, type BaseModel, checkWritesText, logitsOf, withSession } from '../base/base.js'
import { badArgument } from '../core/arguments.js'
import { DivergedError } from '../core/errors.js'
import { EVAL_PLAN, evaluationPlans } from '../planning/plans.js'
import { checkHead } from '../train/answers/classify.js'
import { evaluateClasses } from '../train/objectives/classification.js'
import { presentRanks } from '../train/processes/processes.js'
import { type DataControl, prepareEvaluation } from '../train/rows/data.js'
import { formatOf, rowPrompting, warnOfMismatch } from '../train/rows/prompting.js'
import { agreeToEvaluate, sharedWith } from '../train/run/agreement.js'
import { type DatasetArgument, type DatasetConfig, datasetOf } from '../train/sources/data-sources.js'
import { type Evaluation, evaluateBatches } from '../train/steps/evaluate.js'
import type { evaluateSchema, exactMatchSchema } from './options.js'

/** Checked options of a call, with the adapters that take part in it. */
export interface Asked<Given> {
  chosen: ActiveAdapter[]
  given: Given
}

export async function evaluated(
  base: BaseModel,
  data: DatasetArgument,
  { chosen, given }: Asked<z.infer<typeof evaluateSchema>>,
): Promise<Evaluation> {
  const { signal, onProgress, onDataProgress, ...read } = given
  const { chatTemplate, trainingTemplate, heldOut, ...shape } = read
  const { labels } = base
  const parsed = labels === null ? shape : { ...shape, packing: false }
  const config = datasetOf(data, 'evaluate()')
  if (labels !== null) checkHead(base, chosen, 'evaluate()')
  const how = { ...parsed, chatTemplate, trainingTemplate, heldOut }
  const { source } = await readEvaluation(base, config, chosen, how, { signal, onProgress: onDataProgress })
  const plans = evaluationPlans(parsed, base, labels !== null)
  const shared = sharedWith(presentRanks(), { signal, onProgress })
  const found = await withSession(base, chosen, plans, (session) =>
    labels === null
      ? evaluateBatches(session, EVAL_PLAN, source, shared)
      : evaluateClasses(session, EVAL_PLAN, source, labels.length, shared),
  )
  if (Number.isFinite(found.loss)) return found
  throw new DivergedError(
    `the loss of ${base.name} on ${config.path} is ${found.loss}: the weights or an adapter have values that are not finite, or so large that their sums overflow.`,
    { model: base.name, dataset: config.path, loss: String(found.loss) },
  )
}

/** Reads data for a measurement row by row. */
export async function readRows(
  base: BaseModel,
  data: DatasetArgument,
  { chosen, given }: Asked<z.infer<typeof exactMatchSchema>>,
  name: string,
) {
  checkWritesText(base, name)
  const { signal, onProgress, onDataProgress, ...parsed } = given
  const shape = { ...parsed, perDeviceTrainBatchSize: 1, packing: false }
  const read = await readEvaluation(base, datasetOf(data, name), chosen, shape, {
    signal,
    onProgress: onDataProgress,
  })
  const shared = sharedWith(presentRanks(), { signal, onProgress })
  return { read, rest: [parsed.maxSeqLength, shared] as const }
}

/** @throws {DataError} for an id outside the vocabulary */
export async function checkedLogits(
  base: BaseModel,
  chosen: readonly ActiveAdapter[],
  tokens: Int32Array,
): Promise<Float32Array> {
  checkWritesText(base, 'logits()')
  if (!(tokens instanceof Int32Array))
    throw badArgument(tokens, 'logits()', 'tokens', 'an Int32Array of token ids')
  return logitsOf(base, chosen, tokens)
}

/** Reads evaluation data in the prompt format the adapters were trained on. */
async function readEvaluation(
  base: BaseModel,
  data: DatasetConfig,
  adapters: readonly ActiveAdapter[],
  {
    chatTemplate,
    trainingTemplate,
    ...shape
  }: Parameters<typeof prepareEvaluation>[2] & Parameters<typeof rowPrompting>[1],
  control: DataControl,
): ReturnType<typeof prepareEvaluation> {
  const format = formatOf(base, adapters)
  const prompting = rowPrompting(format, { chatTemplate, trainingTemplate })
  const ranks = presentRanks()
  const now = await ranks.firsts('time of an evaluation', async () => Date.now())
  const read = await prepareEvaluation(base, data, { ...shape, prompting }, { ...control, now })
  if (!ranks.isAlone)
    await agreeToEvaluate(ranks, base, adapters, await read.fingerprint(), { ...shape, chatTemplate })
  // Raw text has no prompt, so its format cannot mismatch the adapter's.
  if (read.format?.form === 'chat' || chatTemplate === false)
    warnOfMismatch(base, format, read.format?.form ?? 'raw')
  return read
}
