/** Matches the size of strategies to LoRA's, in trained parameters or planned bytes. */
import { LowrankError } from '../core/errors.js'
import { strategyFrom } from '../strategies/index.js'
import type { StrategyConfig } from '../strategies/strategy.js'
import { INITIAL_RANKS } from './entries.js'

type Options = Record<string, unknown>

const SIZES = [1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024]

/**
 * The config of a strategy whose size is closest to a target on a logarithmic scale. Strategies of fixed size are
 * returned unchanged.
 * @param sizeOf size of a strategy; throws a LowrankError if the model does not support it
 */
export async function nearestSize(
  strategy: StrategyConfig,
  target: number,
  sizeOf: (strategy: StrategyConfig) => Promise<number>,
): Promise<StrategyConfig> {
  let nearest = strategy
  let least = distance(await sizeOf(strategy), target)
  for (const size of SIZES) {
    try {
      const resized = ofSize(strategy, size)
      if (resized === undefined) return strategy
      const found = distance(await sizeOf(resized), target)
      if (found < least) [nearest, least] = [resized, found]
    } catch (error) {
      if (!(error instanceof LowrankError)) throw error
    }
  }
  return nearest
}

function distance(size: number, target: number): number {
  return Math.abs(Math.log(size / target))
}

/** The strategy at another rank or block size, with the same scale; undefined if it has neither. */
function ofSize(strategy: StrategyConfig, size: number): StrategyConfig | undefined {
  const options = strategy as unknown as Options
  if ('adapter' in options) {
    const adapter = ofSize(options.adapter as StrategyConfig, size)
    return adapter && strategyFrom({ ...options, adapter })
  }
  if ('oftBlockSize' in options) return strategyFrom({ ...options, oftBlockSize: size })
  if ('targetR' in options) {
    const initR = Math.ceil(INITIAL_RANKS * size)
    const alpha = (options.loraAlpha as number) * (initR / (options.initR as number))
    return strategyFrom({ ...options, targetR: size, initR, loraAlpha: alpha })
  }
  if (!('r' in options)) return undefined
  const ratio = size / (options.r as number)
  const scaled = ['loraAlpha', 'alpha']
    .filter((key) => key in options)
    .map((key) => [key, (options[key] as number) * ratio])
  return strategyFrom({ ...options, r: size, ...Object.fromEntries(scaled) })
}
