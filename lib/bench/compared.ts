/** Strategies with comparable settings. */
import { strategyFrom } from '../strategies/index.js'
import type { StrategyConfig } from '../strategies/strategy.js'

/** A strategy at the rank of a comparison; strategies such as VeRA, whose rank means something else, keep their own. */
export function compared(name: string, rank: number): StrategyConfig {
  const config = strategyFrom({ name })
  if ('adapter' in config)
    return strategyFrom({ name, adapter: { ...(config.adapter as object), r: rank, loraAlpha: rank } })
  if (name === 'vera' || !('r' in config)) return config
  const alpha = 'loraAlpha' in config ? { loraAlpha: rank } : {}
  return strategyFrom({ name, r: rank, ...alpha })
}
