/** Strategies as they are compared with one another. */
import { strategyFrom } from '../strategies/index.js'
import type { StrategyConfig } from '../strategies/strategy.js'

/** A strategy with the rank of a comparison; what has another kind of rank, as VeRA has, keeps its own. */
export function compared(name: string, rank: number): StrategyConfig {
  const config = strategyFrom({ name })
  if ('adapter' in config)
    return strategyFrom({ name, adapter: { ...(config.adapter as object), r: rank, loraAlpha: rank } })
  if (name === 'vera' || !('r' in config)) return config
  const alpha = 'loraAlpha' in config ? { loraAlpha: rank } : {}
  return strategyFrom({ name, r: rank, ...alpha })
}
