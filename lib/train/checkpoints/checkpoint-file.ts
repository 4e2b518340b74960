/**
 * Checkpoints: `checkpoint-<step>/` is an adapter folder that PEFT loads, plus training_state.safetensors (the
 * optimizer state), training_state.json (the position of the run and its inputs), and hashes of all files. A
 * run resumed from a checkpoint continues bit for bit as if it had never stopped; differences that would
 * prevent this are refused.
 */
import { join } from 'node:path'
import { type AdapterState, type BaseModel, saveAdapter, savedForm, savesModel } from '../../base/base.js'
import { breather } from '../../core/breather.js'
import { ShapeError } from '../../core/errors.js'
import { openFolder } from '../../formats/model-files.js'
import {
  readSafetensorsHeader,
  readTensor,
  type SafetensorsHeader,
  type SafetensorsInput,
  tensorSize,
  writeSafetensors,
} from '../../formats/safetensors.js'
import { readInto, withInputFile } from '../../io/input.js'
import { fileInside } from '../../io/inside.js'
import { writeSums } from '../../io/sums.js'
import type { AdapterArray } from '../../native/addon.js'
import { ArrayPieces } from '../../native/pieces.js'
import { openAdapterFolder } from '../../peft/adapter-folder.js'
import { piecesInBytes, toFloat32 } from '../../peft/floats.js'
import { strategyToFile } from '../../strategies/index.js'
import type { Factor, ReadFactor } from '../../strategies/strategy.js'
import type { TrainingState } from '../steps/step.js'
import { checkpointPath } from './checkpoint-folder.js'
import { type Checkpoint, canonical, checkIdentity, type RunIdentity } from './run-identity.js'
import { anotherAdapter, TENSORS, writeState } from './state-file.js'

/** Arrays of trained factors that are saved with the optimizer state if the strategy tracks them. */
const IMPORTANCES = ['sensitivity', 'uncertainty'] as const

/**
 * Writes `checkpoint-<step>` into the folder of a run atomically.
 * @returns its path
 */
export async function saveCheckpoint(
  runDir: string,
  base: BaseModel,
  adapter: AdapterState,
  state: TrainingState,
  identity: RunIdentity,
): Promise<string> {
  const path = checkpointPath(runDir, state.step)
  const breathe = breather()
  const pieces = new ArrayPieces(adapter.native)
  const arrayOf = ({ name, rows, cols }: Factor, array: AdapterArray, called: string): SafetensorsInput => ({
    name: called,
    dtype: 'F32',
    shape: [rows, cols],
    data: () => piecesInBytes('F32', pieces.values(name, array, rows * cols)),
  })
  const tensors: SafetensorsInput[] = []
  for (const factor of adapter.description.factors.filter(({ trained }) => trained)) {
    await breathe()
    for (const { name, dtype, shape } of adapter.native.state(factor.name)) {
      const tensor = { name: stateName(factor, name), dtype, shape }
      const bytes = tensorSize(tensor)
      tensors.push({ ...tensor, data: () => pieces.state(factor.name, name, bytes) })
    }
    for (const array of followed(adapter, factor.name))
      tensors.push(arrayOf(factor, array, stateName(factor, array)))
  }
  // The adapter files in another strategy's form do not contain the trained factors, so they are saved here.
  const reads: ReadFactor = (name) => adapter.native.read(name, 'value')
  if (!savesModel(adapter.description) && savedForm(adapter.description, reads) !== undefined)
    for (const factor of adapter.description.factors)
      tensors.push(arrayOf(factor, 'value', valueName(factor.name)))
  await saveAdapter(path, base, adapter, {
    exact: true,
    replace: true,
    more: async (folder) => {
      await breathe()
      await writeSafetensors(join(folder, TENSORS), tensors)
      await writeState(folder, adapter.description.strategy, state, identity)
      await writeSums(folder)
    },
  })
  return path
}

/**
 * Restores an adapter, freshly set up with the run's optimizer, to the state of a checkpoint.
 * @throws {FileFormatError} when the checkpoint's tensors are damaged
 * @throws {ConfigError} when the base, data, adapter, or options differ, naming the difference
 */
export async function restoreCheckpoint(
  checkpoint: Checkpoint,
  base: BaseModel,
  adapter: AdapterState,
  identity: RunIdentity,
): Promise<TrainingState> {
  const { path } = checkpoint
  // Checked first, because options may depend on the strategy.
  const strategy = strategyToFile(adapter.description.strategy)
  if (canonical(checkpoint.strategy) !== canonical(strategy))
    throw anotherAdapter(path, checkpoint.strategy, strategy)
  checkIdentity(path, checkpoint.identity, identity)
  await restoreValues(path, base, adapter)
  const header = await readSafetensorsHeader(await fileInside(path, TENSORS))
  const { native } = adapter
  const room = reusedRoom()
  for (const factor of adapter.description.factors.filter((f) => f.trained)) {
    for (const { name, dtype, shape } of native.state(factor.name)) {
      const bytes = await stateTensor(header, stateName(factor, name), dtype, shape, room)
      native.writeState(factor.name, name, bytes)
    }
    for (const array of followed(adapter, factor.name)) {
      const name = stateName(factor, array)
      if (!header.tensors.has(name)) continue
      const bytes = await stateTensor(header, name, 'F32', [factor.rows, factor.cols], room)
      native.write(factor.name, array, toFloat32('F32', bytes, name))
    }
  }
  return checkpoint.state
}

/** Restores only the values of an adapter from a checkpoint. */
export async function restoreValues(path: string, base: BaseModel, adapter: AdapterState): Promise<void> {
  if (savesModel(adapter.description)) return restoreModel(path, adapter)
  const header = await readSafetensorsHeader(await fileInside(path, TENSORS))
  if ([...header.tensors.keys()].some((name) => name.startsWith(valueName(''))))
    return restoreFactors(header, adapter)
  return restoreAdapter(path, base, adapter)
}

async function stateTensor(
  header: SafetensorsHeader,
  name: string,
  dtype: 'F32' | 'U8',
  shape: readonly number[],
  room: (bytes: number) => Uint8Array<ArrayBuffer>,
): Promise<Uint8Array> {
  const tensor = header.tensors.get(name)
  if (tensor?.dtype !== dtype || tensor.shape.join() !== shape.join())
    throw new ShapeError(
      `${header.path}: ${name} is ${tensor ? `${tensor.dtype} [${tensor.shape.join(', ')}]` : 'missing'}, expected ${dtype} [${shape.join(', ')}].`,
      { path: header.path, name },
    )
  return readTensor(header, name, room)
}

/** One buffer reused for all tensors; a new array for each would create megabytes of garbage. */
function reusedRoom(): (bytes: number) => Uint8Array<ArrayBuffer> {
  let buffer = new Uint8Array()
  return (bytes) => {
    if (buffer.length < bytes) buffer = new Uint8Array(bytes)
    return buffer.subarray(0, bytes)
  }
}

async function restoreAdapter(path: string, base: BaseModel, adapter: AdapterState): Promise<void> {
  const folder = await openAdapterFolder(path, base.sites, base.weights)
  if (JSON.stringify(folder.description.spec) !== JSON.stringify((adapter.whole ?? adapter.description).spec))
    throw anotherAdapter(
      path,
      strategyToFile(folder.description.strategy),
      strategyToFile(adapter.description.strategy),
    )
  const own = new Set(adapter.description.factors.map(({ name }) => name))
  for await (const { name, values } of folder.parameters())
    if (own.has(name)) adapter.native.write(name, 'value', values)
}

/** Reads the factors that are saved beside an adapter in another strategy's form. */
async function restoreFactors(
  header: SafetensorsHeader,
  { native, description }: AdapterState,
): Promise<void> {
  const room = reusedRoom()
  for (const { name, rows, cols } of description.factors) {
    const bytes = await stateTensor(header, valueName(name), 'F32', [rows, cols], room)
    native.write(name, 'value', toFloat32('F32', bytes, name))
  }
}

async function restoreModel(path: string, adapter: AdapterState): Promise<void> {
  const { tensors } = await openFolder(path)
  for (const { name, tensor } of adapter.description.factors) {
    const source = tensors.get(name)
    if (source?.dtype !== 'F32' || source.shape.join() !== tensor?.shape.join())
      throw new ShapeError(
        `${path}: ${name} is ${source ? `${source.dtype} [${source.shape}]` : 'missing'}, expected F32 [${tensor?.shape}].`,
        { path, name },
      )
    const bytes = new Uint8Array(source.bytes)
    await withInputFile(source.file, (file) => readInto(file, bytes, source.offset))
    adapter.native.write(name, 'value', toFloat32(source.dtype, bytes, name))
  }
}

const followed = ({ native }: AdapterState, factor: string) => {
  const arrays = native.arrays(factor)
  return IMPORTANCES.filter((array) => arrays.includes(array))
}

const stateName = (factor: { name: string; tensor?: { name: string } }, array: string) =>
  `${array}.${factor.tensor?.name ?? factor.name}`

const valueName = (name: string) => `value.${name}`
