/**
 * Writes an adapter as a folder that vLLM reads exactly. vLLM knows one rank and one alpha for all modules, and neither
 * patterns nor DoRA, so other ranks are filled with zeros and other scales multiplied into B. PEFT reads the same folder.
 */
import { originOf } from '../base/base.js'
import { UnsupportedError } from '../core/errors.js'
import { saveAdapterFolder } from '../peft/adapter-folder.js'
import { float32Bytes } from '../peft/floats.js'
import { asEvenLora } from '../strategies/convert.js'
import { describeAdapter } from '../strategies/describe.js'
import type { Subject } from './drift.js'
import { ADAPTER_FORMATS, lowRankOf } from './low-rank.js'
import { exportedFormat } from './prompting.js'

/** Values of vLLM's max_lora_rank; the default is 16. */
const RANKS = [1, 8, 16, 32, 64, 128, 256, 320, 512]
const DEFAULT_RANK = 16

/** The least max_lora_rank that vLLM needs for an adapter; undefined if it has none that is large enough. */
export const vllmRank = (rank: number): number | undefined => RANKS.find((most) => most >= rank)

/**
 * Writes the folder.
 * @returns settings that vLLM needs, as sentences
 * @throws {ConfigError} unless there is exactly one adapter
 * @throws {UnsupportedError} for an adapter that is not a sum of low-rank products at linear layers, or has a higher rank
 * than vLLM supports
 */
export async function writeVllm(path: string, subject: Subject): Promise<string[]> {
  const { base } = subject
  const { adapter, pairs } = lowRankOf(subject, 'vllm')
  const { description, privacy } = adapter.state
  const { strategy, read } = asEvenLora(pairs, base.sites, description.linears)
  const { r } = strategy as typeof strategy & { r: number }
  const most = vllmRank(r)
  if (most === undefined) {
    const { target } = pairs.find(({ rank }) => rank === r) as (typeof pairs)[number]
    throw new UnsupportedError(
      `the adapter has the rank ${r} at ${target}, but vLLM supports at most ${RANKS.at(-1)}; ${ADAPTER_FORMATS.vllm}.`,
      { target, rank: r },
    )
  }
  const described = describeAdapter(strategy, base.sites, { strict: false, weights: base.weights })
  await saveAdapterFolder(
    path,
    described,
    ({ name }) =>
      () =>
        float32Bytes(read(name)),
    originOf(base),
    { trainedAs: description.strategy, privacy, format: exportedFormat(subject) },
  )
  return most > DEFAULT_RANK
    ? [`vLLM needs --max-lora-rank ${most} for the rank of ${r}; its default is ${DEFAULT_RANK}`]
    : []
}
