/**
 * The models that answer: the bases of the command line, each loaded once, and adapters on them, which are attached when
 * they are first asked and detached when others need their place.
 */
import { basename } from 'node:path'
import type { ActiveAdapter, BaseModel } from '../base/base.js'
import { ConfigError } from '../core/errors.js'
import type { Adapter } from '../model/adapter.js'
import type { Model } from '../model/model.js'
import { Turns } from '../native/handles.js'
import { seconds } from './clock.js'
import { unknownModel } from './errors.js'
import { SideBySide, type TextDecoder } from './side-by-side.js'

/** Adapters of one base that stay attached while nobody asks them. */
const MOST_IDLE = 16

/** A model as clients see it. */
export interface ModelObject {
  id: string
  object: 'model'
  created: number
  owned_by: string
}

/** An adapter by the name that it is asked by. */
export interface TunedModel {
  name: string
  /** Name of its base. */
  base: string
  /** Its folder. */
  path: string
  created: number
}

/** A model while it answers. */
export interface Answering {
  base: BaseModel
  adapters: readonly ActiveAdapter[]
  /** Identifies the adapter; null for the base alone. */
  revision: string | null
  /** Opens a decoder for one text. @param tokens of its prompt and answer together */
  decoder(tokens: number): Promise<TextDecoder>
  /** Lets the adapter be detached. */
  release(): void
}

interface Attached {
  adapter: Adapter
  users: number
}

/** A base with the adapters that are attached to it, the least recently asked first. */
class Base {
  readonly created = seconds()
  readonly #attached = new Map<string, Attached>()
  /** Adapters are attached one at a time, so that two requests do not attach the same one. */
  readonly #turns = new Turns()

  readonly #sideBySide: SideBySide

  /** @param room bytes of memory that are free for answers now */
  constructor(
    readonly model: Model,
    room: () => number,
  ) {
    this.#sideBySide = new SideBySide(model.base, room)
  }

  /** Opens a decoder for one text. @param tokens of its prompt and answer together */
  decoder(adapters: readonly ActiveAdapter[], tokens: number): Promise<TextDecoder> {
    const attached = [...this.#attached.values()].map(({ adapter }) => activeOf(adapter))
    return this.#sideBySide.decoder(adapters, attached, tokens)
  }

  attached(tuned: TunedModel): Promise<Attached> {
    return this.#turns.run(async () => {
      const found = this.#attached.get(tuned.path)
      const attached = found ?? {
        adapter: await this.model.loadAdapter(tuned.path, { name: tuned.path }),
        users: 0,
      }
      this.#attached.delete(tuned.path)
      this.#attached.set(tuned.path, attached)
      attached.users++
      await this.#detachIdle(MOST_IDLE)
      return attached
    })
  }

  /** Frees what only answers need: adapters that nobody asks now, and the cache. */
  async freeIdle(): Promise<void> {
    await this.#turns.run(() => this.#detachIdle(0))
    await this.#sideBySide.closeIdle()
  }

  /** Detaches an adapter whose folder is about to go. */
  drop(path: string): Promise<void> {
    return this.#turns.run(async () => {
      const found = this.#attached.get(path)
      if (found !== undefined) await this.#detach(path, found.adapter)
    })
  }

  async #detachIdle(most: number): Promise<void> {
    for (const [path, { adapter, users }] of this.#attached) {
      if (this.#attached.size <= most) return
      if (users > 0) continue
      await this.#detach(path, adapter)
    }
  }

  async #detach(path: string, adapter: Adapter): Promise<void> {
    this.#attached.delete(path)
    await this.#sideBySide.forget(activeOf(adapter))
    await adapter.detach()
  }
}

function activeOf({ state }: Adapter): ActiveAdapter {
  return { state, weight: 1, rank: null }
}

export class Models {
  readonly #bases = new Map<string, Base>()
  readonly #aliases: ReadonlyMap<string, string>
  readonly #tuned = new Map<string, TunedModel>()
  #answering = 0
  /** Bytes of memory that are free for answers of a model now. */
  room: (model: Model) => number = () => process.availableMemory()

  /**
   * @param bases by the names that they are asked by
   * @param aliases other names of them
   * @throws {ConfigError} for an alias of no base
   */
  constructor(bases: ReadonlyMap<string, Model>, aliases: ReadonlyMap<string, string>) {
    for (const [name, model] of bases) this.#bases.set(name, new Base(model, () => this.room(model)))
    for (const [alias, name] of aliases)
      if (!bases.has(name))
        throw new ConfigError(
          `--alias ${alias}=${name}: there is no model ${name}; expected one of ${[...bases.keys()].join(', ')}.`,
        )
    this.#aliases = aliases
  }

  add(tuned: TunedModel): void {
    this.#tuned.set(tuned.name, tuned)
  }

  async remove(name: string): Promise<void> {
    const tuned = this.#tuned.get(name)
    if (tuned === undefined) return
    this.#tuned.delete(name)
    await this.#bases.get(tuned.base)?.drop(tuned.path)
  }

  get list(): ModelObject[] {
    const tuned = [...this.#tuned.values()].map(({ name, created }) => modelObject(name, created))
    const bases = [...this.#bases].map(([name, { created }]) => modelObject(name, created))
    const aliases = [...this.#aliases.keys()].map((name) => modelObject(name, this.#base(name)?.created ?? 0))
    return [...bases, ...aliases, ...tuned]
  }

  /** The loaded models. */
  get bases(): Model[] {
    return [...this.#bases.values()].map(({ model }) => model)
  }

  /** Answers in progress. */
  get answering(): number {
    return this.#answering
  }

  /** Frees memory that only answers need, and none does now. */
  async freeIdle(): Promise<void> {
    for (const base of this.#bases.values()) await base.freeIdle()
  }

  /** @throws {ApiError} for a name that no model has */
  get(name: string): ModelObject {
    const found = this.list.find(({ id }) => id === name)
    if (found === undefined) throw unknownModel(name)
    return found
  }

  isTuned(name: string): boolean {
    return this.#tuned.has(name)
  }

  /**
   * The base that a job trains on, by its own name, an alias, or a fine-tuned model, from which the job then starts.
   * @throws {ApiError} for a name that no model has
   */
  trainable(name: string): { name: string; model: Model; tuned?: TunedModel } {
    const tuned = this.#tuned.get(name)
    const own = tuned?.base ?? this.#aliases.get(name) ?? name
    const base = this.#bases.get(own)
    if (base === undefined) throw unknownModel(name)
    return { name: own, model: base.model, ...(tuned && { tuned }) }
  }

  /**
   * The model that a request asks, which must be released after the answer.
   * @throws {ApiError} for a name that no model has
   */
  async asked(name: string): Promise<Answering> {
    const base = this.#base(name)
    const done = () => {
      this.#answering--
    }
    if (base !== undefined) {
      this.#answering++
      return {
        ...{ base: base.model.base, adapters: [], revision: null, release: done },
        decoder: (tokens) => base.decoder([], tokens),
      }
    }
    const tuned = this.#tuned.get(name)
    const own = tuned && this.#bases.get(tuned.base)
    if (tuned === undefined || own === undefined) throw unknownModel(name)
    const attached = await own.attached(tuned)
    const adapters = [activeOf(attached.adapter)]
    this.#answering++
    return {
      base: own.model.base,
      adapters,
      revision: `${tuned.name} ${tuned.created}`,
      decoder: (tokens) => own.decoder(adapters, tokens),
      release: () => {
        attached.users--
        done()
      },
    }
  }

  async dispose(): Promise<void> {
    await this.freeIdle()
    for (const { model } of this.#bases.values()) await model.dispose()
  }

  #base(name: string): Base | undefined {
    return this.#bases.get(this.#aliases.get(name) ?? name)
  }
}

/** Name that a base is asked by, without a name of its own: its file or folder. */
export function modelName(path: string): string {
  return basename(path).replace(/\.gguf$/i, '')
}

function modelObject(id: string, created: number): ModelObject {
  return { id, object: 'model', created, owned_by: 'local' }
}
