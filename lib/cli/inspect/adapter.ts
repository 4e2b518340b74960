/**
 * What is in an adapter folder, be it the output folder of a run with checkpoints inside, and in a checkpoint, which is
 * one with the state of its training beside it.
 */
import { readdir, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { UnsupportedError } from '../../errors.js'
import { readJsonObject } from '../../files/input.js'
import { readSafetensorsHeader } from '../../files/safetensors.js'
import { formatBytes } from '../../memory.js'
import { readAdapterConfig } from '../../peft/adapter-config.js'
import { facts, formatCount } from '../format.js'
import type { Inspection } from '../inspect.js'
import type { Printed } from '../schemas.js'
import { type CheckpointFacts, checkpointLines, checkpointsIn } from './run.js'

const CONFIG_LIMIT = 16 << 20
const MODULE = /^base_model\.model\.(.+)\.[^.]+\.weight$/

type AdapterFacts = Omit<Extract<Printed<'inspect'>, { kind: 'adapter' }>, 'kind' | 'checkpoints'>

export async function inspectAdapter(path: string, kind: 'adapter' | 'checkpoint'): Promise<Inspection> {
  const found = await adapterFacts(path)
  if (kind === 'checkpoint') {
    const training = await readTraining(path)
    return { data: { kind, ...found, training }, text: () => describe(kind, found, { training }) }
  }
  const checkpoints = await checkpointsIn(path)
  const listed = checkpoints.length > 0 ? { checkpoints } : {}
  return { data: { kind, ...found, ...listed }, text: () => describe(kind, found, listed) }
}

async function adapterFacts(path: string): Promise<AdapterFacts> {
  const configPath = join(path, 'adapter_config.json')
  const config = await readJsonObject(configPath, CONFIG_LIMIT)
  const { modules, ...tensors } = await readTensors(path)
  const reason = await whyUnsupported(configPath, modules)
  return {
    path,
    peft_type: config.peft_type ?? null,
    base_model: config.base_model_name_or_path ?? null,
    task_type: config.task_type ?? null,
    r: config.r ?? null,
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

interface AdapterTensors {
  /** Paths of the linears that they belong to. */
  modules: string[]
  tensors: number
  dtypes: string[]
  parameters: number
}

async function readTensors(path: string): Promise<AdapterTensors> {
  const header = await readSafetensorsHeader(join(path, 'adapter_model.safetensors'))
  const list = [...header.tensors.values()]
  const modules = list.flatMap(({ name }) => MODULE.exec(name)?.[1] ?? [])
  return {
    modules: [...new Set(modules)],
    tensors: list.length,
    dtypes: [...new Set(list.map(({ dtype }) => dtype))],
    parameters: list.reduce((sum, { shape }) => sum + shape.reduce((a, b) => a * b, 1), 0),
  }
}

/** Why `--adapter` would refuse it whatever the model; null when it would not. */
async function whyUnsupported(configPath: string, modules: readonly string[]): Promise<string | null> {
  try {
    await readAdapterConfig(configPath, modules)
    return null
  } catch (error) {
    if (error instanceof UnsupportedError) return error.message
    throw error
  }
}

async function readTraining(path: string): Promise<Record<string, unknown>> {
  return readJsonObject(join(path, 'training_state.json'), CONFIG_LIMIT)
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
    ['type', `PEFT ${plain(found.peft_type) ?? 'unknown'}`],
    ['base model', plain(found.base_model)],
    ['task', plain(found.task_type)],
    ['rank', plain(found.r)],
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
