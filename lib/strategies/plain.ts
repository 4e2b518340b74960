/** The strategies that stand on their own, which others may wrap. */
import * as z from 'zod'
import { adaloraRules } from './adalora.js'
import { deltaLoraRules } from './delta-lora.js'
import { doraRules } from './dora.js'
import { dyloraRules } from './dylora.js'
import { lohaRules } from './loha.js'
import { loraRules } from './lora.js'
import { loraFaRules } from './lora-fa.js'
import type { StrategyConfig, StrategyRules } from './strategy.js'
import { veraRules } from './vera.js'

const plain = [
  loraRules,
  loraFaRules,
  doraRules,
  deltaLoraRules,
  dyloraRules,
  adaloraRules,
  veraRules,
  lohaRules,
] as unknown as readonly StrategyRules[]

/** An adapter by its name. Default plain LoRA. */
export const plainSchema = z.discriminatedUnion('name', [
  loraRules.schema,
  loraFaRules.schema,
  doraRules.schema,
  deltaLoraRules.schema,
  dyloraRules.schema,
  adaloraRules.schema,
  veraRules.schema,
  lohaRules.schema,
])

/** Rules of a strategy that `plainSchema` takes. */
export function plainRules(config: StrategyConfig): StrategyRules {
  return plain.find((rules) => rules.name === config.name) as StrategyRules
}
