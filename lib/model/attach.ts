/** Creates native adapters for a model, either new or read from files. */
import { type AdapterState, type BaseModel, checkWritesText } from '../base/base.js'
import { breather } from '../core/breather.js'
import { ConfigError } from '../core/errors.js'
import { ggufFormOf } from '../models/index.js'
import { addon, type Device } from '../native/addon.js'
import { translated } from '../native/errors.js'
import { Turns } from '../native/handles.js'
import { type AdapterFolder, openAdapterFolder } from '../peft/adapter-folder.js'
import { openGgufAdapter } from '../peft/gguf-adapter.js'
import { ownCard } from '../peft/model-card.js'
import { describeAdapter, initialize } from '../strategies/describe.js'
import { rulesOf } from '../strategies/index.js'
import { describePart } from '../strategies/part.js'
import type { AdapterDescription, StrategyConfig } from '../strategies/strategy.js'
import { describeQuantization } from '../weights/quantization.js'

/** @throws {ConfigError} when the strategy requires a different quantization than the model's */
export function checkStandsFor(base: BaseModel, strategy: StrategyConfig): void {
  const defaults = rulesOf(strategy).defaults(strategy)
  for (const key of ['quantization', 'embeddingQuantization'] as const) {
    const wanted = defaults[key]
    if (wanted === undefined || wanted.type === base[key].type) continue
    throw new ConfigError(
      `attach(): strategy ${strategy.name} requires ${key} ${describeQuantization(wanted)}, but the model was loaded with ${describeQuantization(base[key])}; load it with the former, or attach ${key === 'quantization' ? 'the inner adapter' : 'another strategy'}.`,
      { strategy: strategy.name },
    )
  }
}

export function createAdapter(
  description: AdapterDescription,
  about: Pick<AdapterState, 'trainable' | 'trainedOn' | 'privacy' | 'format' | 'card'> = {
    trainable: true,
    trainedOn: null,
    format: null,
    privacy: [],
    card: null,
  },
  device: Device = 'cpu',
  whole: AdapterDescription | null = null,
): AdapterState {
  const { trainable } = about
  const native = translated(() => addon().createAdapter(description.spec, { trainable, device }))
  return { description, whole, ...about, optimizer: null, native, version: 0, turns: new Turns() }
}

/** Creates a new adapter with its initial values. */
export async function newState(
  base: BaseModel,
  strategy: StrategyConfig,
  seed: number,
): Promise<AdapterState> {
  const breathe = breather()
  const { part } = base
  const all = describeAdapter(strategy, base.sites, { weights: base.weights })
  const description = part === null ? all : describePart(all, part)
  await breathe()
  const state = createAdapter(description, undefined, base.device, part === null ? null : all)
  await breathe()
  return kept(state, async () => {
    await initialize(state.native, description, base, seed)
    await breathe()
  })
}

/** Reads the metadata of an adapter, a folder or a file, but not its weights. */
export async function openAdapter(path: string, base: BaseModel): Promise<AdapterFolder> {
  const { graph, sites, weights } = base
  if (path.endsWith('.gguf')) checkWritesText(base, `the adapter ${path}`)
  const adapter = path.endsWith('.gguf')
    ? await openGgufAdapter(path, graph, sites, ggufFormOf(graph.family))
    : await openAdapterFolder(path, sites, weights)
  for (const remark of adapter.remarks) base.warn(remark)
  return adapter
}

/** Creates an adapter from a folder and reads its weights. */
export async function attachedState(
  base: BaseModel,
  folder: AdapterFolder,
  trainable: boolean,
): Promise<AdapterState> {
  const about = {
    trainable,
    trainedOn: folder.baseFingerprint,
    format: folder.format ?? ('unrecorded' as const),
    privacy: folder.privacy,
    card: await ownCard(folder.path),
  }
  const state = createAdapter(folder.description, about, base.device)
  return kept(state, async () => {
    const unsaved = folder.description.factors.filter(({ tensor }) => tensor === undefined)
    await initialize(state.native, { factors: unsaved, starts: [] }, base, 0)
    for await (const { name, values } of folder.parameters()) state.native.write(name, 'value', values)
  })
}

/** Frees the native adapter if filling it fails. */
async function kept(state: AdapterState, fill: () => Promise<void>): Promise<AdapterState> {
  try {
    await fill()
    return state
  } catch (error) {
    await state.native.dispose()
    throw error
  }
}
