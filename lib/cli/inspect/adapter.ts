/**
 * Contents of an adapter folder, which may be a run's output folder with checkpoints, or of a checkpoint, which
 * is an adapter folder plus training state.
 */
import { readdir, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { formatBytes } from '../../core/bytes.js'
import { FileFormatError, UnsupportedError } from '../../core/errors.js'
import { readGgufHeader } from '../../formats/gguf.js'
import { GgufKeys } from '../../formats/gguf-metadata.js'
import { huggingFaceName } from '../../formats/gguf-names.js'
import { readSafetensorsHeader } from '../../formats/safetensors.js'
import { readJsonObject } from '../../io/input.js'
import { fileInside } from '../../io/inside.js'
import { readAdapterConfig } from '../../peft/adapter-config.js'
import { modulesOf, readSidecar } from '../../peft/adapter-folder.js'
import { facts, formatCount } from '../format.js'
import type { Printed } from '../schemas.js'
import type { Inspection } from './inspection.js'
import { type CheckpointFacts, checkpointLines, checkpointsOf } from './run.js'

const CONFIG_LIMIT = 16 << 20

type AdapterFacts = Omit<Extract<Printed<'inspect'>, { kind: 'adapter' }>, 'kind' | 'checkpoints'>

export async function inspectAdapter(path: string, kind: 'adapter' | 'checkpoint'): Promise<Inspection> {
  if ((await stat(path)).isFile()) {
    const found = await ggufFacts(path)
    return { data: { kind: 'adapter', ...found }, text: () => describe('adapter', found, {}) }
  }
  const found = await adapterFacts(path)
  if (kind === 'checkpoint') {
    const training = await readTraining(path)
    return { data: { kind, ...found, training }, text: () => describe(kind, found, { training }) }
  }
  const checkpoints = await checkpointsOf(path)
  const listed = checkpoints.length > 0 ? { checkpoints } : {}
  return { data: { kind, ...found, ...listed }, text: () => describe(kind, found, listed) }
}

async function adapterFacts(path: string): Promise<AdapterFacts> {
  const configPath = await fileInside(path, 'adapter_config.json')
  const config = await readJsonObject(configPath, CONFIG_LIMIT)
  const { modules, ...tensors } = await readTensors(path)
  const reason = await whyUnsupported(path, configPath, modules)
  return {
    path,
    peft_type: config.peft_type ?? null,
    base_model: config.base_model_name_or_path ?? null,
    task_type: config.task_type ?? null,
    r: config.r ?? null,
    oft_block_size: config.oft_block_size ?? null,
    lora_alpha: config.lora_alpha ?? null,
    lora_dropout: config.lora_dropout ?? null,
    use_rslora: config.use_rslora ?? null,
    target_modules: config.target_modules ?? null,
    ...tensors,
    modules: modules.length,
    bytes: await folderBytes(path),
    supported: reason === null,
    ...(reason === null ? {} : { reason }),
  }
}

/** Facts about a GGUF adapter, which contains less information about itself than a folder. */
async function ggufFacts(path: string): Promise<AdapterFacts> {
  const { metadata, tensors, fileSize } = await readGgufHeader(path)
  const keys = new GgufKeys(path, metadata)
  const kind = keys.text('adapter.type')
  const linears = tensors.flatMap(({ name }) => {
    const weight = huggingFaceName(name.replace(/\.lora_[ab]$/, ''), Number.POSITIVE_INFINITY)
    return weight === undefined ? [] : [weight.replace(/\.weight$/, '')]
  })
  const modules = new Set(linears)
  const ranks = tensors.flatMap(({ name, dims }) => (name.endsWith('.lora_b') ? [dims[0] ?? 1] : []))
  const supported = kind === 'lora'
  return {
    path,
    peft_type: kind?.toUpperCase() ?? null,
    base_model: keys.text('general.base_model.0.name') ?? null,
    task_type: null,
    r: ranks.length > 0 ? Math.max(...ranks) : null,
    oft_block_size: null,
    lora_alpha: keys.number('adapter.lora.alpha') ?? null,
    lora_dropout: null,
    use_rslora: null,
    target_modules: [...new Set([...modules].map((module) => module.split('.').at(-1)))].sort(),
    modules: modules.size,
    tensors: tensors.length,
    dtypes: [...new Set(tensors.map(({ type }) => type.name))],
    parameters: tensors.reduce((sum, { dims }) => sum + dims.reduce((a, b) => a * b, 1), 0),
    bytes: fileSize,
    supported,
    ...(supported ? {} : { reason: `its type is ${kind ?? 'not said'}; lora can be loaded` }),
  }
}

interface AdapterTensors {
  /** Paths of the linear layers that the tensors belong to. */
  modules: string[]
  tensors: number
  dtypes: string[]
  parameters: number
}

async function readTensors(path: string): Promise<AdapterTensors> {
  const header = await readSafetensorsHeader(await fileInside(path, 'adapter_model.safetensors'))
  const list = [...header.tensors.values()]
  return {
    modules: modulesOf(header),
    tensors: list.length,
    dtypes: [...new Set(list.map(({ dtype }) => dtype))],
    parameters: list.reduce((sum, { shape }) => sum + shape.reduce((a, b) => a * b, 1), 0),
  }
}

/** Why `--adapter` would refuse the adapter for every model; null if it would not. */
async function whyUnsupported(
  path: string,
  configPath: string,
  modules: readonly string[],
): Promise<string | null> {
  try {
    await readAdapterConfig(configPath, modules)
    await readSidecar(path)
    return null
  } catch (error) {
    if (error instanceof UnsupportedError || error instanceof FileFormatError) return error.message
    throw error
  }
}

async function readTraining(path: string): Promise<Record<string, unknown>> {
  return readJsonObject(await fileInside(path, 'training_state.json'), CONFIG_LIMIT)
}

async function folderBytes(path: string): Promise<number> {
  const entries = await readdir(path, { withFileTypes: true })
  const sizes = entries.filter((entry) => entry.isFile()).map(({ name }) => stat(join(path, name)))
  return (await Promise.all(sizes)).reduce((sum, { size }) => sum + size, 0)
}

function describe(
  kind: 'adapter' | 'checkpoint',
  found: AdapterFacts,
  { training, checkpoints = [] }: { training?: Record<string, unknown>; checkpoints?: CheckpointFacts[] },
): string {
  const plain = (value: unknown) =>
    value === null || value === undefined
      ? undefined
      : Array.isArray(value)
        ? value.join(', ')
        : String(value)
  return facts([
    [kind, found.path],
    ['type', `${found.path.endsWith('.gguf') ? 'GGUF' : 'PEFT'} ${plain(found.peft_type) ?? 'unknown'}`],
    ['base model', plain(found.base_model)],
    ['task', plain(found.task_type)],
    ['rank', found.r === 0 ? undefined : plain(found.r)],
    ['block size', plain(found.oft_block_size)],
    ['alpha', plain(found.lora_alpha)],
    ['dropout', plain(found.lora_dropout)],
    ['targets', plain(found.target_modules)],
    ['modules', found.modules],
    ['tensors', `${found.tensors} (${found.dtypes.join(', ')})`],
    ['parameters', formatCount(found.parameters)],
    ['files', formatBytes(found.bytes)],
    ['step', plain(training?.step)],
    ['cannot be loaded', found.reason],
    ...checkpointLines(checkpoints).map((line) => ['checkpoint', line] as const),
  ])
}
