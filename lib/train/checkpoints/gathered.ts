/** Brings the adapter of all ranks to rank 0, to save it, when each holds that of its own layers. */
import type { AdapterState, BaseModel } from '../../base/base.js'
import { tensorSize } from '../../formats/safetensors.js'
import { addon, type NativeAdapter } from '../../native/addon.js'
import { translated, translatedAsync } from '../../native/errors.js'
import { type LayerPart, ownersOf } from '../../strategies/part.js'
import type { StepSetup } from '../steps/step.js'

/** The inputs of saving. */
export interface SavingSetup extends StepSetup {
  base: BaseModel
  /** Runs native work while the adapter is kept alive. */
  use: <T>(work: () => Promise<T>) => Promise<T>
}

/**
 * Saves the adapter of a run; all ranks that hold a part of the layers must call it.
 * @returns undefined on a rank that has only its part
 */
export function savedBy<Saved>(
  setup: SavingSetup,
  save: (whole: AdapterState) => Promise<Saved>,
): Promise<Saved | undefined> {
  const { adapter, pipe, use } = setup
  return use<Saved | undefined>(() => (pipe === undefined ? save(adapter) : gathered(setup, save)))
}

/**
 * Saves the whole adapter with its optimizer state on rank 0, where it is in memory meanwhile.
 * @returns the result on rank 0, undefined on the others
 */
async function gathered<Saved>(
  { base, adapter, ranks }: SavingSetup,
  save: (whole: AdapterState) => Promise<Saved>,
): Promise<Saved | undefined> {
  const whole = adapter.whole as NonNullable<AdapterState['whole']>
  const part = base.part as LayerPart
  let native: NativeAdapter | undefined
  try {
    // Made first, so that no rank waits for another that has failed.
    await ranks.together('whole adapter', async () => {
      if (!ranks.isFirst) return
      native = translated(() => addon().createAdapter(whole.spec, { trainable: true, device: 'cpu' }))
      const { resident: _, folder: __, ...state } = adapter.optimizer ?? {}
      const made = native
      await translatedAsync(() => made.restart('kind' in state ? state : undefined).promise)
    })
    const owners = ownersOf(whole, part)
    for (const { name, rows, cols, trained } of whole.factors) {
      const owner = owners.get(name) as number
      if (native === undefined && owner !== part.index) continue
      const bytes = 4 * rows * cols
      const values = await carried(owner, part.index, bytes, () =>
        bytesOf(adapter.native.read(name, 'value')),
      )
      if (values !== undefined) native?.write(name, 'value', floatsOf(values))
      if (!trained) continue
      for (const tensor of (native ?? adapter.native).state(name)) {
        const own = () => adapter.native.readState(name, tensor.name)
        const state = await carried(owner, part.index, tensorSize(tensor), own)
        if (state !== undefined) native?.writeState(name, tensor.name, state)
      }
    }
    return native === undefined ? undefined : await save({ ...adapter, description: whole, native })
  } finally {
    await native?.dispose()
  }
}

/**
 * Brings an array from its rank to rank 0.
 * @returns the array on rank 0, undefined on the others
 */
async function carried(
  owner: number,
  rank: number,
  bytes: number,
  own: () => Uint8Array,
): Promise<Uint8Array | undefined> {
  if (rank === 0)
    return owner === 0 ? own() : translatedAsync(() => addon().receiveFromRank(owner, bytes).promise)
  await translatedAsync(() => addon().sendToRank(0, own()).promise)
  return undefined
}

const bytesOf = ({ buffer, byteOffset, byteLength }: Float32Array) =>
  new Uint8Array(buffer, byteOffset, byteLength)

const floatsOf = ({ buffer, byteOffset, byteLength }: Uint8Array) =>
  new Float32Array(buffer, byteOffset, byteLength / 4)
