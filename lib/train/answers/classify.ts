/** Classification of texts. */
import { type ActiveAdapter, type BaseModel, withSession } from '../../base/base.js'
import { ConfigError, DataError } from '../../core/errors.js'
import { EVAL_PLAN, evaluationPlans } from '../../planning/plans.js'
import { largestOf } from '../steps/class-metrics.js'

/** Predicted class of a text. */
export interface Classified {
  label: string
  /** Probability of each class, by class name. */
  probabilities: Readonly<Record<string, number>>
  /** True if the text has more than `maxSeqLength` tokens, of which only the first were read. */
  truncated: boolean
}

/** @throws {ConfigError} unless the model is a classifier and one of the adapters has its head */
export function checkHead(
  base: BaseModel,
  adapters: readonly ActiveAdapter[],
  name: string,
): readonly string[] {
  if (base.labels === null)
    throw new ConfigError(`${name}: ${base.name} has no head for classes; load it with labels.`, {})
  if (adapters.length === 0)
    throw new ConfigError(
      `${name}: ${base.name} was loaded as a classifier, but no adapter acts, and the head comes with one; load an adapter that was trained with task classification.`,
      {},
    )
  return base.labels
}

/** @throws {DataError} for a text without tokens */
export async function classifyTexts(
  base: BaseModel,
  adapters: readonly ActiveAdapter[],
  texts: readonly string[],
  options: {
    maxSeqLength: number
    perDeviceTrainBatchSize: number
    signal?: AbortSignal | undefined
  },
): Promise<Classified[]> {
  const labels = checkHead(base, adapters, 'classify()')
  const { maxSeqLength, perDeviceTrainBatchSize: atOnce, signal } = options
  const tokenizer = await base.tokenizer()
  const rows: Int32Array[] = []
  const cut: boolean[] = []
  for (const [index, text] of texts.entries()) {
    const ids = text.trim() === '' ? [] : await tokenizer.encode(text, { addSpecialTokens: true })
    if (ids.length === 0) throw new DataError(`classify(): texts.${index} is empty.`, { index })
    rows.push(Int32Array.from(ids.slice(0, maxSeqLength)))
    cut.push(ids.length > maxSeqLength)
  }
  const plans = evaluationPlans({ ...options, packing: false, logitsMemory: 'auto' }, base, true)
  const found: Classified[] = []
  await withSession(base, adapters, plans, async (session) => {
    for (let from = 0; from < rows.length; from += atOnce) {
      signal?.throwIfAborted()
      const batch = rows.slice(from, from + atOnce)
      const made = await session.evaluate(EVAL_PLAN, { ...packed(batch), wantLogits: true }).promise
      const scores = made.logits as Float32Array
      for (let row = 0; row < batch.length; row++)
        found.push({ ...classified(scores, row, labels), truncated: cut[from + row] as boolean })
    }
  })
  return found
}

/** Packs texts into one micro-batch; the class is read at the last token of each. */
function packed(rows: readonly Int32Array[]) {
  const cuSeqlens = new Int32Array(rows.length + 1)
  for (const [row, ids] of rows.entries()) cuSeqlens[row + 1] = (cuSeqlens[row] as number) + ids.length
  const total = cuSeqlens[rows.length] as number
  const tokens = new Int32Array(total)
  const labels = new Int32Array(total).fill(-100)
  for (const [row, ids] of rows.entries()) {
    tokens.set(ids, cuSeqlens[row])
    labels[(cuSeqlens[row + 1] as number) - 1] = 0
  }
  return { tokens, labels, cuSeqlens }
}

function classified(
  scores: Float32Array,
  row: number,
  labels: readonly string[],
): Omit<Classified, 'truncated'> {
  const best = largestOf(scores, row, labels.length)
  const at = (id: number) => scores[row * labels.length + id] as number
  const shares = labels.map((_, id) => Math.exp(at(id) - at(best)))
  const sum = shares.reduce((total, share) => total + share, 0)
  const probabilities = Object.fromEntries(labels.map((label, id) => [label, (shares[id] as number) / sum]))
  return { label: labels[best] as string, probabilities }
}
