/** The strategies that others may wrap, in the order of their papers. Written by `node scripts/records.mjs`. */
import { adaloraRules } from './adalora.js'
import { deltaLoraRules } from './delta-lora.js'
import { doraRules } from './dora.js'
import { dyloraRules } from './dylora.js'
import { hiraRules } from './hira.js'
import { lohaRules } from './loha.js'
import { lokrRules } from './lokr.js'
import { loraRules } from './lora.js'
import { loraDropRules } from './lora-drop.js'
import { loraFaRules } from './lora-fa.js'
import { missRules } from './miss.js'
import { oftRules } from './oft.js'
import type { StrategyRules } from './strategy.js'
import { veraRules } from './vera.js'

export const PLAIN = [
  loraRules,
  lohaRules,
  dyloraRules,
  adaloraRules,
  loraFaRules,
  deltaLoraRules,
  lokrRules,
  veraRules,
  loraDropRules,
  doraRules,
  missRules,
  oftRules,
  hiraRules,
] as unknown as readonly StrategyRules[]
