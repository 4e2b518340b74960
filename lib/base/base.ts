/** State shared by a loaded model, its adapters, and its runs. Internal. */
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
  PlanOptions,
  Precision,
  StateSpec,
  StorageFormat,
} from '../native/addon.js'
import type { Lifetime, Turns } from '../native/handles.js'
import { ArrayPieces } from '../native/pieces.js'
import { closeSession, openSession } from '../native/session.js'
import { saveAdapterFolder } from '../peft/adapter-folder.js'
import { float32Bytes, piecesInBytes } from '../peft/floats.js'
import { writeCard } from '../peft/model-card.js'
import type { AdapterBase } from '../peft/sidecar.js'
import { asLora, nearestLora } from '../strategies/convert.js'
import { describeAdapter } from '../strategies/describe.js'
import { rulesOf } from '../strategies/index.js'
import type { LayerPart } from '../strategies/part.js'
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

/** A model's weights in native memory, with their metadata. */
export interface BaseModel {
  /** Local path or Hub name of the model; recorded in adapter_config.json. */
  name: string
  /** Commit on the Hub; null for a local path. */
  revision: string | null
  files: ModelFiles
  graph: Graph
  /** Class names of a classifier; null for a language model. */
  labels: readonly string[] | null
  /** Linear layers that accept adapters. */
  sites: LinearSite[]
  /** Weights that can be trained as full copies. */
  weights: WeightSite[]
  /**
   * The layers that this rank holds, if they are split over ranks: `graph` and `native` have only these, `sites` and
   * `weights` are those of all layers. Null for a whole model.
   */
  part: LayerPart | null
  native: NativeModel
  /** Device the model runs on. */
  device: Device
  /** Resident bytes of the process before the model was opened. */
  runtimeBytes: number
  formats: Readonly<Record<string, StorageFormat>>
  quantization: Quantization
  /** Quantization of the embedding and the head. */
  embeddingQuantization: Quantization
  precision: Precision
  lifetime: Lifetime
  /** Read on first use. */
  tokenizerSource(): Promise<TokenizerSource>
  /** Created on first use. */
  tokenizer(): Promise<WorkerTokenizer>
  /** Stops the tokenizer if it was created. */
  closeTokenizer(): Promise<void>
  /** Warns about unexpected behavior in one sentence; repeated messages are suppressed. */
  warn(message: string): void
  /** Opens another model, such as one exported from this one. */
  reopen(path: string, options: ReopenOptions): Promise<BaseModel>
}

/** Options of `BaseModel.reopen`, as for `loadModel`. */
export interface ReopenOptions {
  device?: Device
  precision?: 'fp32' | 'bf16' | 'auto'
  onProgress?: (progress: LoadProgress) => void
  signal?: AbortSignal | undefined
}

/** An adapter's description and its arrays in native memory. */
export interface AdapterState {
  description: AdapterDescription
  /** Description over the layers of all ranks, if `description` and `native` have only those of this rank. */
  whole: AdapterDescription | null
  native: NativeAdapter
  trainable: boolean
  /** Optimizer state since the last training began; null if never trained. */
  optimizer: StateSpec | null
  /** Content hash of the model files it was trained on, if recorded in its folder. */
  trainedOn: string | null
  /** Prompt format used in training; `unrecorded` if its folder has none, null before any training. */
  format: PromptFormat | 'unrecorded' | null
  /** Text of its model card, from its training or its folder; null without one. */
  card: string | null
  /** Privacy spent by its private trainings; emptied by training without privacy. */
  privacy: readonly PrivacyReport[]
  /** Incremented whenever the weights change, to invalidate caches. */
  version: number
  /** Serializes updates and saves, so that a save never mixes two steps. */
  turns: Turns
}

/** An active adapter and the weight of its output. */
export interface ActiveAdapter {
  state: AdapterState
  /** Never 0; adapters with weight 0 are omitted. */
  weight: number
  /** Number of leading ranks in use; null means all. */
  rank: number | null
}

/** @throws {UnsupportedError} for a classifier, which cannot generate text */
export function checkWritesText({ labels, name }: BaseModel, what: string): void {
  if (labels === null) return
  throw new UnsupportedError(
    `${what}: ${name} was loaded as a classifier, whose head scores ${labels.join(', ')} and writes no text; load it without labels, or use classify() or evaluate().`,
    { labels },
  )
}

/** @throws {UnsupportedError} for a rank that holds only a part of the layers */
export function checkGenerates({ part }: BaseModel, what: string): void {
  if (part === null) return
  throw new UnsupportedError(
    `${what} needs all layers of the model, and this is rank ${part.index} of ${part.count} that share them (split: layers).`,
    { rank: part.index },
  )
}

/** Opens a session over the base model and adapters, whose outputs are summed. */
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

/** Options for saving an adapter. */
export interface SaveOptions {
  /** `lora` saves an equivalent plain LoRA. Default: the format of the adapter's own strategy. */
  form?: 'own' | 'lora'
  /** Save the closest LoRA of this rank. Default null: an exactly equivalent one. */
  nearestRank?: number | null
  /** Save a LoRA of the first `rank` ranks. Default null: all ranks. */
  rank?: number | null
  /**
   * Keep the exact values of trained base weights, so that a run can resume from them. Default: the dtype of the base.
   */
  exact?: boolean
  /** Writes additional files to the same folder. */
  more?: (folder: string) => Promise<void>
  /** Text of the model card to write, unless the folder has one of the user's. Default: none. */
  card?: string
  /** Replace an existing folder instead of adding files to it. Default false. */
  replace?: boolean
}

/** Result of saving an adapter. */
export interface Saved {
  /** Norm of the error in the saved weights, relative to the norm of the adapter's weight update; 0 is exact. */
  error: number
  /** Settings of the saved adapter that other programs ignore or refuse, as sentences. Usually empty. */
  remarks: string[]
}

/** Saves an adapter as a PEFT folder, or as a model folder if the strategy trains the whole model. */
export async function saveAdapter(
  path: string,
  base: BaseModel,
  { description, native, turns, privacy, format: found }: AdapterState,
  {
    form = 'own',
    nearestRank = null,
    rank = null,
    exact = false,
    more,
    card,
    replace = false,
  }: SaveOptions = {},
): Promise<Pick<Saved, 'error'>> {
  const others = async (folder: string) => {
    await more?.(folder)
    if (card !== undefined) await writeCard(folder, path, card)
  }
  const rest = { more: others, replace }
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
  const origin = originOf(base)
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

/** The base as an adapter's folder names it. */
export function originOf(base: BaseModel): AdapterBase {
  return {
    name: base.name,
    revision: base.revision,
    fingerprint: base.files.fingerprint,
    multimodal: base.files.whole !== undefined && !base.files.whole.loadsText,
    ...wordsOfHeld(base),
  }
}

/**
 * Quantization of the base model as written in a config file; that of the embedding and head only if not the default.
 */
function wordsOfHeld(base: BaseModel) {
  return {
    quantization: describeQuantization(base.quantization),
    ...(embeddingAsUsual(base)
      ? {}
      : { embeddingQuantization: describeQuantization(base.embeddingQuantization) }),
  }
}

/** Conversion for saving, if the adapter is not saved in its own form. */
export function savedForm(description: AdapterDescription, read: ReadFactor): Conversion | undefined {
  return rulesOf(description.strategy).savedAs?.(description.strategy, description, read)
}

/** The LoRA given by the first `rank` ranks of an adapter. */
export function atRank(description: AdapterDescription, rank: number, read: ReadFactor): Conversion {
  const made = rulesOf(description.strategy).ranked?.(description.strategy)?.at(rank, description, read)
  if (made !== undefined) return made
  throw new InternalError(
    `strategy ${description.strategy.name} has a single rank, and rank ${rank} was requested`,
  )
}

/** True if the strategy saves a whole model instead of an adapter. */
export function savesModel({ strategy }: AdapterDescription): boolean {
  return rulesOf(strategy).saves === 'model'
}

/** The closest dtype available in a model folder: GGUF block formats become bf16. */
function floatDtype(dtype: string | undefined): ModelDtype {
  return dtype === 'F32' || dtype === 'F16' ? dtype : 'BF16'
}

/** Runs work in its own session over the base model and adapters, freed when the work is done. */
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

/** The logits of every position of one sequence, `[tokens, vocabulary]`. */
export async function logitsOf(
  base: BaseModel,
  adapters: readonly ActiveAdapter[],
  tokens: Int32Array,
  precision: PlanOptions['precision'] = base.precision,
): Promise<Float32Array> {
  const length = Math.max(tokens.length, 1)
  const plan: PlanOptions = {
    mode: 'forward',
    tokens: length,
    sequences: 1,
    headRows: length,
    kvCapacity: length,
    precision,
  }
  return withSession(base, adapters, { forward: plan }, async (session) => {
    const rows = Int32Array.from(tokens, (_, row) => row)
    const result = await session.forward('forward', { tokens, past: 0, rows, wantLogits: true }).promise
    return result.logits as Float32Array
  })
}
