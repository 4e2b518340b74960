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
import { type CheckpointFacts, checkpointLines, checkpointsIn } from './run.js'

const CONFIG_LIMIT = 16 << 20
const MODULE = /^base_model\.model\.(.+)\.[^.]+\.weight$/

/** Keys of adapter_config.json that say what the adapter computes. */
const SHOWN = ['r', 'lora_alpha', 'lora_dropout', 'use_rslora', 'target_modules'] as const

export async function inspectAdapter(path: string, kind: 'adapter' | 'checkpoint'): Promise<Inspection> {
  const configPath = join(path, 'adapter_config.json')
  const config = await readJsonObject(configPath, CONFIG_LIMIT)
  const tensors = await readTensors(path)
  const reason = await whyUnsupported(configPath, tensors.modules)
  const shown = Object.fromEntries(SHOWN.map((key) => [key, config[key] ?? null]))
  const bytes = await folderBytes(path)
  const checkpoints = kind === 'adapter' ? await checkpointsIn(path) : []
  const data = {
    kind,
    path,
    peft_type: config.peft_type ?? null,
    base_model: config.base_model_name_or_path ?? null,
    task_type: config.task_type ?? null,
    ...shown,
    ...tensors,
    modules: tensors.modules.length,
    bytes,
    supported: reason === null,
    ...(reason === null ? {} : { reason }),
    ...(kind === 'checkpoint' ? { training: await readTraining(path) } : {}),
    ...(checkpoints.length > 0 ? { checkpoints } : {}),
  }
  return { data, text: () => describe(data, tensors, bytes, checkpoints) }
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
  data: Inspection['data'],
  tensors: AdapterTensors,
  bytes: number,
  checkpoints: readonly CheckpointFacts[],
): string {
  const plain = (value: unknown) =>
    value === null || value === undefined
      ? undefined
      : Array.isArray(value)
        ? value.join(', ')
        : String(value)
  const training = (data.training ?? {}) as Record<string, unknown>
  return facts([
    [data.kind, data.path],
    ['type', `PEFT ${plain(data.peft_type) ?? 'unknown'}`],
    ['base model', plain(data.base_model)],
    ['task', plain(data.task_type)],
    ['rank', plain(data.r)],
    ['alpha', plain(data.lora_alpha)],
    ['dropout', plain(data.lora_dropout)],
    ['targets', plain(data.target_modules)],
    ['modules', tensors.modules.length],
    ['tensors', `${tensors.tensors} (${tensors.dtypes.join(', ')})`],
    ['parameters', formatCount(tensors.parameters)],
    ['files', formatBytes(bytes)],
    ['step', plain(training.step)],
    ['cannot be loaded', plain(data.reason)],
    ...checkpointLines(checkpoints).map((line) => ['checkpoint', line] as const),
  ])
}
