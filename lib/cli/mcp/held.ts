/** The model that answered last, which stays in memory until another one is asked or a job needs the room. */
import type { Model } from '../../model/model.js'
import { Turns } from '../../native/handles.js'
import type { RunConfig } from '../../train/config/config.js'
import { Output } from '../output.js'
import { type SubjectOptions, withSubject } from '../subject.js'

/** A model by the config of its run, or by itself. */
export interface Wanted {
  /** Tells it from others. */
  key: string
  config?: RunConfig
  options: SubjectOptions
}

interface Holding {
  key: string
  model: Model
  free: () => Promise<void>
}

export class HeldModel {
  readonly #turns = new Turns()
  #held: Holding | undefined

  /** Does work with a model, while no other is loaded. */
  use<T>(
    { key, config, options }: Wanted,
    signal: AbortSignal,
    work: (model: Model) => Promise<T>,
  ): Promise<T> {
    return this.#turns.run(async () => {
      if (this.#held?.key !== key) {
        await this.#free()
        this.#held = { key, ...(await loaded(config, options, signal)) }
      }
      return work(this.#held.model)
    })
  }

  /** Frees the model once it is not in use. */
  release(): Promise<void> {
    return this.#turns.run(() => this.#free())
  }

  async #free(): Promise<void> {
    const held = this.#held
    this.#held = undefined
    await held?.free()
  }
}

/** Loads a model as other commands do, which free it after their work: this work ends when it is told. */
function loaded(
  config: RunConfig | undefined,
  options: SubjectOptions,
  signal: AbortSignal,
): Promise<Omit<Holding, 'key'>> {
  return new Promise((resolve, reject) => {
    const whole = withSubject(config, options, Output.silent(), signal, async (model) => {
      await new Promise<void>((end) => {
        resolve({
          model,
          free: () => {
            end()
            return whole
          },
        })
      })
    })
    whole.catch(reject)
  })
}
