/** What a loaded model, its adapters and its runs share. Nothing here is part of the public interface. */
import type { ModelFiles } from './files/model-files.js'
import type { Tokenizer } from './files/tokenizer.js'
import type { Graph } from './graph/graph.js'
import type {
  NativeAdapter,
  NativeModel,
  NativeSession,
  PlanOptions,
  Precision,
  StorageFormat,
} from './native/addon.js'
import { addon } from './native/addon.js'
import type { Lifetime } from './native/handles.js'
import type { AdapterDescription } from './strategies/describe.js'
import type { Quantization } from './strategies/quantization.js'
import type { LinearSite } from './strategies/strategy.js'

/** A model's weights in native memory, and what is known about them. */
export interface BaseModel {
  /** As the user named it; goes into adapter_config.json. */
  name: string
  files: ModelFiles
  graph: Graph
  /** Where adapters may attach. */
  sites: LinearSite[]
  native: NativeModel
  formats: Readonly<Record<string, StorageFormat>>
  quantization: Quantization
  precision: Precision
  lifetime: Lifetime
  /** Loaded when first asked for. */
  tokenizer(): Promise<Tokenizer>
}

/** An adapter's description and its arrays in native memory. */
export interface AdapterState {
  description: AdapterDescription
  native: NativeAdapter
  trainable: boolean
}

/** Runs work over a session of its own: plans over the base and adapters, freed when the work is over. */
export async function withSession<T>(
  base: BaseModel,
  adapters: readonly AdapterState[],
  plans: Record<string, PlanOptions>,
  work: (session: NativeSession) => Promise<T>,
): Promise<T> {
  return base.lifetime.use(async () => {
    const session = addon().createSession(
      base.native,
      adapters.map((adapter) => adapter.native),
      plans,
    )
    try {
      return await work(session)
    } finally {
      session.dispose()
    }
  })
}
