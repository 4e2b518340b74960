/** State shared by a loaded model, its adapters, and its runs. Nothing here is part of the public interface. */
import { InternalError, UnsupportedError } from '../core/errors.js'
import type { WorkerTokenizer } from '../data/worker-tokenizer.js'
import type { ModelFiles } from '../formats/model-files.js'
import type { PromptFormat } from '../formats/prompt-format.js'
import type { Graph } from '../graph/graph.js'
import type {
  Device,
  NativeAdapter,
  NativeModel,
  NativeSession,
  OptimizerState,
  PlanOptions,
  Precision,
  StorageFormat,
} from '../native/addon.js'
import type { Lifetime, Turns } from '../native/handles.js'
import { ArrayPieces } from '../native/pieces.js'
import { closeSession, openSession } from '../native/session.js'
import { saveAdapterFolder } from '../peft/adapter-folder.js'
import { float32Bytes, piecesInBytes } from '../peft/floats.js'
import { asLora, nearestLora } from '../strategies/convert.js'
import { describeAdapter } from '../strategies/describe.js'
import { rulesOf } from '../strategies/index.js'
import type { PrivacyReport } from '../strategies/privacy-report.js'
import type {
  AdapterDescription,
  Conversion,
  Factor,
  LinearSite,
  ReadFactor,
  WeightSite,
} from '../strategies/strategy.js'
import type { TokenizerSource } from '../tokenizer/source.js'
import { describeQuantization, embeddingAsUsual, type Quantization } from '../weights/quantization.js'
import type { LoadProgress } from '../weights/weights.js'
import { type ModelDtype, writeModelFolder } from './model-folder.js'

/** A model's weights in native memory, and what is known about them. */
export interface BaseModel {
  /** Its path, or its name on the hub; goes into adapter_config.json. */
  name: string
  /** The commit on the hub; null for what was named by its path. */
  revision: string | null
  files: ModelFiles
  graph: Graph
  /** Names of the classes that its head tells apart; null for a model of tokens. */
  labels: readonly string[] | null
  /** Linears that accept adapters. */
  sites: LinearSite[]
  /** Weights that may train as copies. */
  weights: WeightSite[]
  native: NativeModel
  /** Device that it runs on. */
  device: Device
  formats: Readonly<Record<string, StorageFormat>>
  quantization: Quantization
  /** Quantization of embedding and head. */
  embeddingQuantization: Quantization
  precision: Precision
  lifetime: Lifetime
  /** Read when first asked for. */
  tokenizerSource(): Promise<TokenizerSource>
  /** Made when first asked for. */
  tokenizer(): Promise<WorkerTokenizer>
  /** Ends the tokenizer, if there is one. */
  closeTokenizer(): Promise<void>
  /** Tells what a user would not expect, a sentence; the same one only once. */
  warn(message: string): void
  /** Opens another model, such as one that was made of this. */
  reopen(path: string, options: ReopenOptions): Promise<BaseModel>
}

/** Options of `BaseModel.reopen`, as of `loadModel`. */
export interface ReopenOptions {
  device?: Device
  precision?: 'fp32' | 'bf16' | 'auto'
  onProgress?: (progress: LoadProgress) => void
  signal?: AbortSignal
}

/** An adapter's description and its arrays in native memory. */
export interface AdapterState {
  description: AdapterDescription
  native: NativeAdapter
  trainable: boolean
  /** Optimizer state since its last training began; null before one. */
  optimizer: OptimizerState | null
  /** Content hash of the model's files that it was trained on, where its folder says so. */
  trainedOn: string | null
  /** Prompt format of its training; `unrecorded` if its folder has none, null before any training. */
  format: PromptFormat | 'unrecorded' | null
  /** Privacy spent by its private trainings; empty after a training without privacy. */
  privacy: readonly PrivacyReport[]
  /** Counts the changes of its values, so that what was computed with earlier ones is not taken for new. */
  version: number
  /** Updates and saves take turns: what is saved is all of one step. */
  turns: Turns
}

/** An adapter that acts, and what its output counts for. */
export interface ActiveAdapter {
  state: AdapterState
  /** Not 0: what counts for nothing is left out. */
  weight: number
  /** Ranks in use, from the first; null is all. */
  rank: number | null
}

/** @throws {UnsupportedError} for a classifier, whose head writes no text */
export function checkWritesText({ labels, name }: BaseModel, what: string): void {
  if (labels === null) return
  throw new UnsupportedError(
    `${what}: ${name} was loaded as a classifier, whose head scores ${labels.join(', ')} and writes no text; load it without labels, or use classify() or evaluate().`,
    { labels },
  )
}

/** Opens a session over the base and adapters whose outputs add up. */
export function openActive(
  base: BaseModel,
  adapters: readonly ActiveAdapter[],
  plans: Record<string, PlanOptions>,
): Promise<NativeSession> {
  const natives = adapters.map(({ state }) => state.native)
  const weights = adapters.map(({ weight }) => weight)
  const ranks = adapters.map(({ rank }) => rank ?? 0)
  return openSession(base.native, natives, plans, weights, ranks)
}

/** Options of saving an adapter. */
export interface SaveOptions {
  /** `lora`: as the plain LoRA that computes the same. Default: the form of its own strategy. */
  form?: 'own' | 'lora'
  /** As the LoRA of this rank that comes nearest. Default null: as one that computes the same. */
  nearestRank?: number | null
  /** As the LoRA of the first ranks. Default null: all ranks. */
  rank?: number | null
  /**
   * Keep the exact numbers of trained base weights, for a run that goes on from them. Default: the dtype of the base.
   */
  exact?: boolean
  /** Writes further files of the same folder. */
  more?: (folder: string) => Promise<void>
  /** Put it in the place of a folder that exists, rather than its files into it. Default false. */
  replace?: boolean
}

/** A saved adapter. */
export interface Saved {
  /**
   * Error of the saved weights over the adapter's change, in norms; 0 is exact.
   */
  error: number
}

/** Saves an adapter as a PEFT folder, or as a model folder where the strategy trains the whole model. */
export async function saveAdapter(
  path: string,
  base: BaseModel,
  { description, native, turns, privacy, format: found }: AdapterState,
  { form = 'own', nearestRank = null, rank = null, exact = false, more, replace = false }: SaveOptions = {},
): Promise<Saved> {
  const rest = { ...(more ? { more } : {}), replace }
  const read: ReadFactor = (name) => native.read(name, 'value')
  const format = found === 'unrecorded' ? null : (found ?? base.files.promptFormat ?? null)
  const pieces = new ArrayPieces(native)
  const own =
    ({ name, rows, cols }: Factor, dtype: ModelDtype) =>
    () =>
      piecesInBytes(dtype, pieces.values(name, 'value', rows * cols))
  if (savesModel(description) && form === 'own') {
    const tensors = description.factors.map((factor) => {
      const { name } = factor
      const dtype = exact ? 'F32' : floatDtype(base.files.tensors.get(name)?.dtype)
      const { shape } = factor.tensor as { shape: number[] }
      return { name, dtype, shape, data: own(factor, dtype) }
    })
    await turns.run(() => writeModelFolder(path, base.files, tensors, { format, ...rest }))
    return { error: 0 }
  }
  const origin = {
    name: base.name,
    revision: base.revision,
    fingerprint: base.files.fingerprint,
    multimodal: base.files.multimodal ?? false,
    ...wordsOfHeld(base),
  }
  return turns.run(async () => {
    const near = nearestRank === null ? null : await nearestLora(description, nearestRank, base, native)
    const other =
      near !== null
        ? near.lora
        : rank !== null
          ? atRank(description, rank, read)
          : form === 'lora'
            ? asLora(description, base.sites, read)
            : savedForm(description, read)
    if (other === undefined)
      await saveAdapterFolder(path, description, (factor) => own(factor, 'F32'), origin, {
        privacy,
        format,
        ...rest,
      })
    else {
      const described = describeAdapter(other.strategy, base.sites, { strict: false, weights: base.weights })
      const trainedAs = description.strategy
      const data =
        ({ name }: Factor) =>
        () =>
          float32Bytes(other.read(name))
      await saveAdapterFolder(path, described, data, origin, { trainedAs, privacy, format, ...rest })
    }
    return { error: near?.error ?? 0 }
  })
}

/** Quantization of the base, as in a config file; that of embedding and head only if it is not the default. */
function wordsOfHeld(base: BaseModel) {
  return {
    quantization: describeQuantization(base.quantization),
    ...(embeddingAsUsual(base)
      ? {}
      : { embeddingQuantization: describeQuantization(base.embeddingQuantization) }),
  }
}

/** The form that an adapter is saved in where it is not its own. */
export function savedForm(description: AdapterDescription, read: ReadFactor): Conversion | undefined {
  return rulesOf(description.strategy).savedAs?.(description.strategy, description, read)
}

/** The LoRA that an adapter is at its first ranks. */
export function atRank(description: AdapterDescription, rank: number, read: ReadFactor): Conversion {
  const made = rulesOf(description.strategy).ranked?.(description.strategy)?.at(rank, description, read)
  if (made !== undefined) return made
  throw new InternalError(
    `strategy ${description.strategy.name} has a single rank, and rank ${rank} was requested`,
  )
}

/** True if a whole model is saved instead of an adapter. */
export function savesModel({ strategy }: AdapterDescription): boolean {
  return rulesOf(strategy).saves === 'model'
}

/** The nearest dtype of a model folder: block formats of GGUF become bf16. */
function floatDtype(dtype: string | undefined): ModelDtype {
  return dtype === 'F32' || dtype === 'F16' ? dtype : 'BF16'
}

/** Runs work over a session of its own: plans over the base and adapters, freed when the work is over. */
export async function withSession<T>(
  base: BaseModel,
  adapters: readonly ActiveAdapter[],
  plans: Record<string, PlanOptions>,
  work: (session: NativeSession) => Promise<T>,
): Promise<T> {
  return base.lifetime.use(async () => {
    const session = await openActive(base, adapters, plans)
    try {
      return await work(session)
    } finally {
      await closeSession(session, plans)
    }
  })
}
