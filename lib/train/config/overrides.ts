/** Overrides of a config, `key=value`, as taken by `--set`. */
import { ConfigError } from '../../core/errors.js'
import { isRecord, snakeKey } from '../../core/schema-shape.js'
import { STDIN } from '../../data/dataset.js'
import { keysOfStrategy } from '../../strategies/index.js'

export type Parse = typeof import('yaml')['parse']

type Mapping = Record<string, unknown>

/** The long-form key for the value of a short form such as `dataset: train.jsonl`. */
const LONG_FORMS: Readonly<Record<string, string>> = {
  dataset: 'path',
  eval_dataset: 'path',
  optimizer: 'type',
  lr_scheduler_type: 'type',
  quantization: 'type',
  embedding_quantization: 'type',
}

/**
 * Applies overrides to a parsed config.
 * @returns sentences about dropped options: options of the file's strategy that an override's strategy does not
 * have
 * @throws {ConfigError} for an override that is not `key=value`
 */
export function applyOverrides(parse: Parse, root: Mapping, overrides: readonly string[]): string[] {
  const earlier = isRecord(root.strategy) ? { ...root.strategy } : undefined
  const set = new Set<string>()
  for (const override of overrides) set.add(applyOverride(parse, root, override))
  if (earlier === undefined || !set.has('strategy.name') || !isRecord(root.strategy)) return []
  return leaveBehind(earlier, root.strategy, (key) => set.has(`strategy.${key}`))
}

/**
 * Removes options that only the earlier strategy has. Options that an override sets stay, and are checked like
 * any key.
 */
function leaveBehind(earlier: Mapping, strategy: Mapping, isSet: (key: string) => boolean): string[] {
  const { name } = strategy
  const known = typeof name === 'string' && name !== earlier.name ? keysOfStrategy(name) : undefined
  if (known === undefined) return []
  const kept = new Set(known.map(snakeKey))
  const left = Object.keys(earlier).filter((key) => key in strategy && !kept.has(key) && !isSet(key))
  for (const key of left) delete strategy[key]
  if (left.length === 0) return []
  return [
    `--set strategy.name=${String(name)} leaves behind ${left.join(', ')} of the config's strategy ${String(earlier.name)}, which ${String(name)} does not have`,
  ]
}

/** @returns the path that was set */
function applyOverride(parse: Parse, root: Mapping, override: string): string {
  const equals = override.indexOf('=')
  const path = override.slice(0, Math.max(0, equals))
  const keys = path.split('.')
  const last = keys.pop()
  if (!last || keys.some((key) => key === ''))
    throw new ConfigError(`--set ${override}: expected key=value, e.g. --set strategy.r=8.`, { override })
  let target = root
  for (const key of keys) {
    const inner = Object.hasOwn(target, key) ? target[key] : undefined
    const next = isRecord(inner) ? inner : longForm(key, inner)
    defineOwn(target, key, next)
    target = next
  }
  defineOwn(target, last, parseValue(parse, override, override.slice(equals + 1)))
  return path
}

function longForm(key: string, value: unknown): Mapping {
  const name = Object.hasOwn(LONG_FORMS, key) ? LONG_FORMS[key] : undefined
  return name === undefined || value === undefined || value === null ? {} : { [name]: value }
}

function parseValue(parse: Parse, override: string, value: string): unknown {
  // In YAML, a single dash is a list with an empty item.
  if (value === STDIN) return value
  try {
    return parse(value)
  } catch (cause) {
    throw new ConfigError(
      `--set ${override}: the value is not valid YAML; quote it.`,
      { override },
      { cause },
    )
  }
}

/** Plain assignment would reach the prototype for a key such as `__proto__`. */
function defineOwn(target: Mapping, key: string, value: unknown): void {
  Object.defineProperty(target, key, { value, writable: true, enumerable: true, configurable: true })
}
