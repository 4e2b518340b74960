/** The strategies that stand on their own, which others may wrap. */
import * as z from 'zod'
import { deepFreeze } from '../schema.js'
import { adaloraRules } from './adalora.js'
import { deltaLoraRules } from './delta-lora.js'
import { doraRules } from './dora.js'
import { dyloraRules } from './dylora.js'
import { lohaRules } from './loha.js'
import { lokrRules } from './lokr.js'
import { loraRules } from './lora.js'
import { loraDropRules } from './lora-drop.js'
import { loraFaRules } from './lora-fa.js'
import type { Probe, StrategyConfig, StrategyRules } from './strategy.js'
import { veraRules } from './vera.js'

const plain = [
  loraRules,
  loraFaRules,
  doraRules,
  deltaLoraRules,
  dyloraRules,
  adaloraRules,
  loraDropRules,
  veraRules,
  lohaRules,
  lokrRules,
] as unknown as readonly StrategyRules[]

/** An adapter by its name. Default plain LoRA. */
export const plainSchema = z.discriminatedUnion('name', [
  loraRules.schema,
  loraFaRules.schema,
  doraRules.schema,
  deltaLoraRules.schema,
  dyloraRules.schema,
  adaloraRules.schema,
  loraDropRules.schema,
  veraRules.schema,
  lohaRules.schema,
  lokrRules.schema,
])

/** Rules of a strategy that `plainSchema` takes. */
export function plainRules(config: StrategyConfig): StrategyRules {
  return plain.find((rules) => rules.name === config.name) as StrategyRules
}

/** The probe of a wrapped adapter, which makes the whole ready. */
export function wrappedProbe<Config extends StrategyConfig>(
  config: Config,
  probe: Probe | undefined,
): Probe | undefined {
  return probe && { ...probe, choose: (norms) => deepFreeze({ ...config, adapter: probe.choose(norms) }) }
}
