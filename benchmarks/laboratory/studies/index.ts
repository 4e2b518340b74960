/** Studies of strategies, by the name of their figure. */
import type { Study } from '../study.js'
import { adaloraRanks } from './adalora-ranks.js'
import { deltaLoraControl } from './delta-lora.js'
import { doraDirections } from './dora-directions.js'
import { dyloraRanks } from './dylora-ranks.js'
import { loraDropImportance } from './lora-drop-importance.js'
import { loraPlusRates } from './lora-plus-rates.js'
import { productRanks } from './product-ranks.js'
import { veraParameters } from './vera-parameters.js'

export const STUDIES = {
  'adalora-ranks': adaloraRanks,
  'dylora-ranks': dyloraRanks,
  'lora-plus-rates': loraPlusRates,
  'vera-parameters': veraParameters,
  'delta-lora': deltaLoraControl,
  'dora-directions': doraDirections,
  'lora-drop-importance': loraDropImportance,
  'product-ranks': productRanks,
} satisfies Record<string, Study>
