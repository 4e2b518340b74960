/** Selects the layers that a strategy adapts, by PEFT's rules for target_modules and related options. */
import { ConfigError } from '../core/errors.js'
import { quote } from '../core/quote.js'
import { snakeKey } from '../core/schema.js'
import { endsInModule, matchPatterns } from './patterns.js'
import type { LinearSite, StrategyConfig, Targeting } from './strategy.js'

/**
 * The layers selected by the rules, in the model's order.
 * @param strict whether every name in a list must match something; off when an adapter's own tensors determine what it
 * adapts
 * @throws {ConfigError} when nothing matches, listing the model's modules
 */
export function resolveTargets(rules: Targeting, sites: readonly LinearSite[], strict = true): LinearSite[] {
  const paths = sites.map((site) => site.path)
  const { targetModules, excludeModules } = rules
  if (targetsHead(rules)) throw headRefused(targetModules)
  const linears = sites.filter((site) => !site.embedding).map((site) => site.path)
  const wanted = pickModules(
    targetModules,
    rules.layersToTransform,
    targetModules === 'all-linear' ? linears : paths,
  )
  if (strict && Array.isArray(targetModules)) {
    const ends = new Set(paths.flatMap(pathEnds))
    for (const name of targetModules as string[]) if (!ends.has(name)) throw nothingMatches(name, sites)
  }
  if (wanted.size === 0) throw nothingMatches(targetModules, sites, rules)
  for (const path of wanted) if (trainsWhole(rules, path)) wanted.delete(path)
  if (wanted.size === 0)
    throw new ConfigError(
      `modules_to_save ${quote(rules.modulesToSave)} excludes every module that target_modules ${quote(targetModules)} matches.`,
      { targetModules, modulesToSave: rules.modulesToSave },
    )
  if (excludeModules !== null) {
    const excluded = pickModules(excludeModules, null, paths)
    for (const path of excluded) wanted.delete(path)
    if (wanted.size === 0)
      throw new ConfigError(
        `exclude_modules ${quote(excludeModules)} excludes every module that target_modules ${quote(targetModules)} matches.`,
        { targetModules, excludeModules },
      )
  }
  return sites.filter((site) => wanted.has(site.path))
}

/**
 * The shortest target_modules list that PEFT resolves to exactly these paths: last name components where they suffice,
 * else whole paths.
 */
export function targetNames(adapted: readonly string[], all: readonly string[]): string[] {
  const chosen = new Set(adapted)
  const names = [...new Set(adapted.map(lastName))].sort()
  const exact = all.every((path) => chosen.has(path) || !names.some((name) => endsInModule(path, name)))
  return exact ? names : [...adapted].sort()
}

/** @throws {ConfigError} for a rank or alpha pattern that matches none of the adapted layers */
export function checkPatterns(strategy: StrategyConfig, targets: readonly LinearSite[]): void {
  const options = strategy as StrategyConfig & Record<string, unknown>
  if (options.adapter) checkPatterns(options.adapter as StrategyConfig, targets)
  const paths = targets.map((site) => site.path)
  for (const key of ['rankPattern', 'alphaPattern']) {
    // AdaLoRA's rank_pattern is different: it maps factors to masks of remaining ranks.
    const table = Object.entries((options[key] ?? {}) as object)
    const patterns = table.filter(([, value]) => typeof value === 'number').map(([pattern]) => pattern)
    const hits = matchPatterns(patterns, paths, 'suffix')
    const unused = patterns.find((_, i) => hits[i]?.size === 0)
    if (unused === undefined) continue
    const names = [...new Set(paths.map(lastName))]
    throw new ConfigError(
      `${snakeKey(key)}: ${quote(unused)} matches no adapted linear. Their names end in: ${names.join(', ')}.`,
      { option: key, pattern: unused },
    )
  }
}

/** True if a module is trained in full, by PEFT's rule: its path, or a parent's, ends in one of the names. */
export function trainsWhole({ modulesToSave }: Targeting, path: string): boolean {
  if (modulesToSave == null || modulesToSave.length === 0) return false
  return enclosing(path).some((module) => modulesToSave.some((wanted) => module.endsWith(wanted)))
}

/** A module and its parents, innermost first. */
export function enclosing(path: string): string[] {
  const names = path.split('.')
  return names.map((_, i) => names.slice(0, names.length - i).join('.'))
}

/** Names that match a module in a list: its path and every suffix after a dot. */
function pathEnds(path: string): string[] {
  const names = path.split('.')
  return names.map((_, i) => names.slice(i).join('.'))
}

/** The last component of a path, such as `q_proj`. */
export const lastName = (path: string): string => path.slice(path.lastIndexOf('.') + 1)

function pickModules(
  modules: string | readonly string[],
  layersToTransform: number | readonly number[] | null,
  paths: readonly string[],
): Set<string> {
  const layers = layersToTransform === null ? null : new Set([layersToTransform].flat())
  const inLayers = (path: string) => layers === null || layers.has(layerIndex(path))
  if (modules === 'all-linear') return new Set(paths.filter(inLayers))
  if (typeof modules === 'string') {
    if (layers !== null)
      throw new ConfigError(
        `layers_to_transform works with a list of target_modules or all-linear, not with the pattern ${quote(modules)}; select the layers in the pattern.`,
        { targetModules: modules },
      )
    return matchPatterns([modules], paths, 'full')[0] ?? new Set()
  }
  const names = new Set(modules)
  const ends = (path: string) => pathEnds(path).some((end) => names.has(end))
  // A whole path selects its module regardless of the layer filter.
  return new Set(paths.filter((path) => names.has(path) || (ends(path) && inLayers(path))))
}

/** The index in the innermost layer list; -1 outside any. */
function layerIndex(path: string): number {
  const found = /.*\.[^.]*\.(\d+)\./.exec(path)
  return found ? Number(found[1]) : -1
}

/** Path of the head, which is fused with the loss and cannot have an adapter. */
export const HEAD = 'lm_head'
export const HEAD_ADVICE = 'Train the whole head with modules_to_save: [lm_head], or leave it out.'

/** True if the rules include the head; `all-linear` excludes it, as in PEFT. */
function targetsHead(rules: Targeting): boolean {
  const { targetModules, excludeModules, layersToTransform } = rules
  if (targetModules === 'all-linear' || trainsWhole(rules, HEAD)) return false
  if (!pickModules(targetModules, layersToTransform, [HEAD]).has(HEAD)) return false
  return excludeModules === null || !pickModules(excludeModules, null, [HEAD]).has(HEAD)
}

function headRefused(what: string | readonly string[]): ConfigError {
  return new ConfigError(
    `target_modules ${quote(what)} names ${HEAD}, but adapters of the head are not supported. ${HEAD_ADVICE}`,
    { targetModules: what },
  )
}

function nothingMatches(
  what: string | readonly string[],
  sites: readonly LinearSite[],
  rules?: Targeting,
): ConfigError {
  const ends = (some: readonly LinearSite[]) => [...new Set(some.map((site) => lastName(site.path)))]
  const existing = ends(sites.filter((site) => !site.embedding))
  const embeddings = ends(sites.filter((site) => site.embedding))
  const beside = embeddings.length > 0 ? `; its embedding is ${embeddings.join(', ')}` : ''
  const within =
    rules && rules.layersToTransform !== null ? ` in layers ${[rules.layersToTransform].flat()}` : ''
  return new ConfigError(
    `target_modules: no linear layer matches ${quote(what)}${within}. Linear layers of this model end in: ${existing.join(', ')}${beside}.`,
    { targetModules: what, existing },
  )
}
