/**
 * Contents of an adapter, a folder or a file, which may be a run's output folder with checkpoints, or of a checkpoint,
 * which is an adapter folder plus training state.
 */
import { readdir, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { formatBytes } from '../../core/bytes.js'
import { FileFormatError, UnsupportedError } from '../../core/errors.js'
import { readGgufHeader } from '../../formats/gguf.js'
import { GgufKeys } from '../../formats/gguf-metadata.js'
import { huggingFaceName } from '../../formats/gguf-names.js'
import { readJsonObject } from '../../io/input.js'
import { fileInside } from '../../io/inside.js'
import { GGUF_FORMS } from '../../models/index.js'
import { checkedAdapterConfig } from '../../peft/adapter-config.js'
import { type AdapterFiles, type AdapterHeader, openAdapterFiles } from '../../peft/adapter-files.js'
import { modulesOf } from '../../peft/adapter-folder.js'
import { readSidecar } from '../../peft/sidecar.js'
import { facts, formatCount } from '../format.js'
import type { Printed } from '../schemas.js'
import type { Inspection } from './inspection.js'
import { type CheckpointFacts, checkpointLines, checkpointsOf } from './run.js'

const CONFIG_LIMIT = 16 << 20

type AdapterFacts = Omit<Extract<Printed<'inspect'>, { kind: 'adapter' }>, 'kind' | 'checkpoints'>

export async function inspectAdapter(path: string, kind: 'adapter' | 'checkpoint'): Promise<Inspection> {
  if (path.endsWith('.gguf')) {
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
  const files = await openAdapterFiles(path)
  const { config, folder, program, remarks } = files
  const { modules, ...tensors } = tensorsOf(files.header)
  const reason = await whyUnsupported(files, modules)
  return {
    path,
    program,
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
    bytes: path === folder ? await folderBytes(path) : files.header.fileSize,
    supported: reason === null,
    ...(reason === null ? {} : { reason }),
    ...(remarks.length === 0 ? {} : { remarks }),
  }
}

/** Facts about a GGUF adapter, which contains less information about itself than a folder. */
async function ggufFacts(path: string): Promise<AdapterFacts> {
  const { metadata, tensors, fileSize } = await readGgufHeader(path)
  const keys = new GgufKeys(path, metadata)
  const kind = keys.text('adapter.type')
  const names = GGUF_FORMS.get(keys.text('general.architecture') ?? '')?.names
  const linears = tensors.flatMap(({ name }) => {
    const weight = huggingFaceName(name.replace(/\.lora_[ab]$/, ''), Number.POSITIVE_INFINITY, names)
    return weight === undefined ? [] : [weight.replace(/\.weight$/, '')]
  })
  const modules = new Set(linears)
  const ranks = tensors.flatMap(({ name, dims }) => (name.endsWith('.lora_b') ? [dims[0] ?? 1] : []))
  const supported = kind === 'lora'
  return {
    path,
    program: null,
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

function tensorsOf(header: AdapterHeader): AdapterTensors {
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
  { folder, configPath, config }: AdapterFiles,
  modules: readonly string[],
): Promise<string | null> {
  try {
    checkedAdapterConfig(configPath, config, modules)
    await readSidecar(folder)
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

/** The program whose form the adapter has, or the form. */
const formOf = ({ path, program }: AdapterFacts): string =>
  program ?? (path.endsWith('.gguf') ? 'GGUF' : 'state dict,')

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
    ['type', `${formOf(found)} ${plain(found.peft_type) ?? 'unknown'}`],
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
    ...(found.remarks ?? []).map((remark) => ['remark', remark] as const),
    ...checkpointLines(checkpoints).map((line) => ['checkpoint', line] as const),
  ])
}
