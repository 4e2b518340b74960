/** The adapters attached to a model: their names, and which of them are active. */

import { basename, resolve } from 'node:path'
import type { ActiveAdapter, AdapterState, BaseModel } from '../base/base.js'
import { badArgument, checkedOptions, checkedPath } from '../core/arguments.js'
import { breather } from '../core/breather.js'
import { ConfigError } from '../core/errors.js'
import { nearest } from '../core/schema.js'
import { isRecord } from '../core/schema-shape.js'
import { locate } from '../hub/locate.js'
import { readStrategy, rulesOf } from '../strategies/index.js'
import type { StrategyConfig } from '../strategies/strategy.js'
import { Adapter, checkedWeight } from './adapter.js'
import { attachedState, checkStandsFor, newState, openAdapter } from './attach.js'
import { type AttachOptions, attachSchema, type LoadAdapterOptions, loadAdapterSchema } from './options.js'
import { openStart } from './start.js'

const CHOICE = 'an adapter, its name, or { adapter, weight }'

export class AttachedAdapters {
  readonly #base: BaseModel
  readonly #release: () => void
  readonly #adapters = new Set<Adapter>()

  /** @param release called after an adapter was detached, and when one begins to be trained */
  constructor(base: BaseModel, release: () => void) {
    this.#base = base
    this.#release = release
  }

  /** In the order in which they were attached. */
  get all(): readonly Adapter[] {
    return [...this.#adapters]
  }

  /** @throws {ConfigError} when no adapter has that name */
  named(name: string): Adapter {
    for (const adapter of this.#adapters) if (adapter.name === name) return adapter
    const names = this.all.map((adapter) => adapter.name)
    const near = nearest(name, names)
    const there = names.length === 0 ? 'it has none' : `it has ${names.join(', ')}`
    throw new ConfigError(
      `the model ${this.#base.name} has no adapter ${name}; ${near === undefined ? there : `did you mean ${near}?`}`,
      { adapter: name, adapters: names },
    )
  }

  /** Attaches a new adapter. */
  async attach(strategy: StrategyConfig, options: AttachOptions): Promise<Adapter> {
    const { seed, name, from, ...hubOptions } = checkedOptions(attachSchema, options, 'attach()')
    const breathe = breather()
    // Plain JavaScript callers may have written the strategy by hand, so it is validated here.
    const config = readStrategy(strategy, { name: 'attach()', spelling: 'camel', at: 'strategy' })
    this.#checkName(name)
    checkStandsFor(this.#base, config)
    if (rulesOf(config).probe?.(config) !== undefined)
      throw new ConfigError(
        `attach(): strategy ${config.name} needs a probe of the data first; attach the strategy that model.probe() returns.`,
        { strategy: config.name },
      )
    await breathe()
    const start =
      from === null
        ? null
        : await openStart((await locate('adapter', from, hubOptions)).path, config, this.#base)
    return this.#base.lifetime.use(async () => {
      const state =
        start === null
          ? await newState(this.#base, config, seed)
          : await attachedState(this.#base, start, true)
      return this.#add(name ?? config.name, state)
    })
  }

  /** Attaches an adapter from files or the hub. */
  async load(from: string, options: LoadAdapterOptions): Promise<Adapter> {
    const given = checkedOptions(loadAdapterSchema, options, 'loadAdapter()')
    const { name, trainable, ...hubOptions } = given
    checkedPath(from, 'loadAdapter()', 'from', 'a folder, a .safetensors or .gguf file, or a name on the hub')
    this.#checkName(name)
    const { path, hub } = await locate('adapter', from, hubOptions)
    const folder = await openAdapter(path, this.#base)
    return this.#base.lifetime.use(async () => {
      const state = await attachedState(this.#base, folder, trainable)
      return this.#add(name ?? basename(hub?.repo ?? resolve(path)), state)
    })
  }

  /** Appends a number if the name is taken, which can happen while this adapter is being read. */
  #add(wanted: string, state: AdapterState): Adapter {
    const taken = new Set(this.all.map(({ name }) => name))
    let name = wanted
    for (let number = 2; taken.has(name); number++) name = `${wanted}-${number}`
    const detached = (gone: Adapter) => {
      this.#adapters.delete(gone)
      this.#release()
    }
    const adapter = new Adapter(name, this.#base, state, detached, this.#release)
    this.#adapters.add(adapter)
    return adapter
  }

  /** @throws {ConfigError} when the name is taken */
  #checkName(name: string | undefined): void {
    if (this.all.some((adapter) => adapter.name === name))
      throw new ConfigError(
        `the model ${this.#base.name} already has an adapter ${name}; give this one another name, or detach the other one.`,
        { adapter: name },
      )
  }

  /** Activates the chosen adapters at their weights and turns the others off. */
  use(choices: unknown): void {
    const chosen = this.#resolve(choices, 'use()', 'choices')
    for (const adapter of this.#adapters) adapter.weight = chosen.get(adapter) ?? 0
  }

  /** Resolves choices to adapters and their weights. */
  #resolve(choices: unknown, name: string, argument: string): Map<Adapter, number> {
    if (!Array.isArray(choices)) throw badArgument(choices, name, argument, `a list, each item ${CHOICE}`)
    const chosen = new Map<Adapter, number>()
    for (const [index, choice] of choices.entries()) {
      const weighted = isRecord(choice) && 'adapter' in choice
      const named = weighted ? choice.adapter : choice
      const adapter = typeof named === 'string' ? this.named(named) : named
      if (!(adapter instanceof Adapter)) throw badArgument(choice, name, `${argument}.${index}`, CHOICE)
      if (!this.#adapters.has(adapter)) {
        void adapter.state // throws a more specific error if it was detached
        throw new ConfigError(
          `the adapter ${adapter.name} is not attached to the model ${this.#base.name}; load it there with loadAdapter().`,
        )
      }
      if (chosen.has(adapter))
        throw new ConfigError(`the adapter ${adapter.name} is named twice; name it once, with one weight.`)
      chosen.set(adapter, weighted ? checkedWeight(choice.weight, adapter.name) : 1)
    }
    return chosen
  }

  /** The active adapters: those with a nonzero weight. */
  acting(): ActiveAdapter[] {
    return this.#active(this.all.map((adapter) => [adapter, adapter.weight]))
  }

  /** The adapters given in a function's `adapters` option; without it, the active ones. */
  chosen(choices: unknown, name: string): ActiveAdapter[] {
    return choices === undefined ? this.acting() : this.#active(this.#resolve(choices, name, 'adapters'))
  }

  #active(chosen: Iterable<readonly [Adapter, number]>): ActiveAdapter[] {
    return [...chosen].flatMap(([adapter, weight]) =>
      weight === 0 ? [] : [{ state: adapter.state, weight, rank: adapter.rank }],
    )
  }
}
