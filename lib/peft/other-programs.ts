/** What programs other than PEFT make of an adapter folder: settings that vLLM ignores or refuses. */
import { quote } from '../core/quote.js'
import { readJsonObject } from '../io/input.js'
import { fileInsideIfAny } from '../io/inside.js'
import { ADAPTER_CONFIG, SEQ_CLS } from './adapter-config.js'

const VLLM = 'vLLM'
const EXPORT = 'export it with format vllm, which multiplies them into the factors'
const MERGE = 'merge the adapter for it'

/**
 * Remarks on a written folder, as sentences; none for a plain LoRA, or for a folder without an adapter.
 * @throws {FileFormatError} when its adapter_config.json is not JSON
 */
export async function remarksForOthers(folder: string): Promise<string[]> {
  const path = await fileInsideIfAny(folder, ADAPTER_CONFIG)
  if (path === undefined) return []
  const fields = await readJsonObject(path, 16 << 20)
  const { peft_type: type, task_type: task, modules_to_save: modules, bias, use_dora: dora } = fields
  // The head of a classifier is trained whole, and no program serves it.
  if (task === SEQ_CLS) return []
  if (type !== 'LORA')
    return [
      `${VLLM} and most other programs load adapters of the type LORA alone, and this one is ${quote(type)}; export it with format vllm if it is a sum of low-rank products, else ${MERGE}`,
    ]
  const refused = [
    ...(dora === true ? ['DoRA (use_dora)'] : []),
    ...(Array.isArray(modules) && modules.length > 0 ? ['modules_to_save'] : []),
    ...(bias !== undefined && bias !== 'none' ? [`bias ${quote(bias)}`] : []),
  ]
  if (refused.length > 0) return [`${VLLM} refuses ${refused.join(' and ')}; ${MERGE}`]
  const ignored = ['rank_pattern', 'alpha_pattern'].filter((key) => Object.keys(fields[key] ?? {}).length > 0)
  if (ignored.length === 0) return []
  return [
    `${VLLM} ignores ${ignored.join(' and ')} of this adapter, so its modules would have wrong scales; ${EXPORT}`,
  ]
}
