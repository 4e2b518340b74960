/** The model families. Written by `node scripts/records.mjs`. */
import type { Family } from './family.js'
import { gemma } from './gemma.js'
import { gemma3 } from './gemma3.js'
import { granite } from './granite.js'
import { lfm2 } from './lfm2.js'
import { llama } from './llama.js'
import { ministral3 } from './ministral3.js'
import { olmo2 } from './olmo2.js'
import { phi3 } from './phi3.js'
import { qwen2 } from './qwen2.js'
import { qwen3 } from './qwen3.js'
import { qwen35 } from './qwen3_5.js'
import { smollm3 } from './smollm3.js'

export const FAMILIES: readonly Family[] = [
  gemma,
  gemma3,
  granite,
  lfm2,
  llama,
  ministral3,
  olmo2,
  phi3,
  qwen2,
  qwen3,
  qwen35,
  smollm3,
]
