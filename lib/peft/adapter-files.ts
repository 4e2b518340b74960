/**
 * The files of an adapter in the forms that programs write it in: PEFT's folder, mlx-lm's folder, and PEFT's state dict
 * without a config. All are described as PEFT's folder, with the tensors under PEFT's names.
 */
import { existsSync, readdirSync, statSync } from 'node:fs'
import { basename, dirname, join } from 'node:path'
import { FileFormatError, UnsupportedError } from '../core/errors.js'
import { quote } from '../core/quote.js'
import { adapterForm, kohyaRefused } from '../formats/foreign-weights.js'
import {
  readSafetensorsHeader,
  readTensor,
  type SafetensorsHeader,
  type SafetensorsTensor,
} from '../formats/safetensors.js'
import { flatName } from '../formats/text-model.js'
import { readJsonObject } from '../io/input.js'
import { fileInside } from '../io/inside.js'
import { ADAPTER_CONFIG, CONFIG_LIMIT } from './adapter-config.js'
import { toFloat32 } from './floats.js'

export const WEIGHTS = 'adapter_model.safetensors'
/** Weights in a folder of mlx-lm. */
const MLX_WEIGHTS = 'adapters.safetensors'
const PICKLES = ['adapter_model.bin', 'adapter_model.pt']

/** A tensor under PEFT's name. */
export interface AdapterTensor extends SafetensorsTensor {
  /** True if the file holds its transpose; `shape` is that of PEFT. */
  transposed?: true
}

export interface AdapterHeader extends SafetensorsHeader {
  tensors: Map<string, AdapterTensor>
}

export interface AdapterFiles {
  /** Folder of the files. */
  folder: string
  /** Program whose form the files have; null for a state dict. */
  program: 'PEFT' | 'mlx-lm' | null
  /** Path of the config; that of the weights if there is none. */
  configPath: string
  /** The config with PEFT's keys. */
  config: Record<string, unknown>
  header: AdapterHeader
  /** What had to be assumed, in sentences. */
  remarks: string[]
}

/**
 * Opens the files of an adapter.
 * @param path a folder, or a .safetensors file
 * @throws {FileFormatError} when a file is missing or malformed
 * @throws {UnsupportedError} for pickles, image models, and parts that have no counterpart in PEFT
 */
export async function openAdapterFiles(path: string): Promise<AdapterFiles> {
  const { folder, weights, config } = placesOf(path)
  const header = await readSafetensorsHeader(await fileInside(folder, weights))
  const form = adapterForm(header)
  if (form === 'kohya') throw kohyaRefused(header.path)
  const configPath = config ? await fileInside(folder, ADAPTER_CONFIG) : header.path
  const fields = config ? await readJsonObject(configPath, CONFIG_LIMIT) : undefined
  if (form === 'mlx') return mlxFiles(folder, configPath, fields, header)
  const named = withPeftNames(header)
  if (fields !== undefined) {
    if (fields.peft_type === undefined && isMlx(fields)) throw mlxWithout(configPath, fields)
    return { folder, program: 'PEFT', configPath, config: fields, header: named, remarks: [] }
  }
  if (form !== 'peft') throw missingFile(path, ADAPTER_CONFIG)
  return stateDict(folder, named)
}

/** Names of the weights of an adapter folder, and whether a config is beside them. */
function placesOf(path: string): { folder: string; weights: string; config: boolean } {
  const isFile = statSync(path, { throwIfNoEntry: false })?.isFile() === true
  const folder = isFile ? dirname(path) : path
  const config = existsSync(join(folder, ADAPTER_CONFIG))
  if (isFile) return { folder, weights: basename(path), config }
  const known = [WEIGHTS, MLX_WEIGHTS].find((name) => existsSync(join(folder, name)))
  if (known !== undefined) return { folder, weights: known, config }
  // A file downloaded alone keeps the name that its author gave it.
  const others = existsSync(folder) ? readdirSync(folder).filter((name) => name.endsWith('.safetensors')) : []
  const [only] = others
  if (config || others.length !== 1 || only === undefined || existsSync(join(folder, 'config.json')))
    throw missingFile(path, config ? WEIGHTS : ADAPTER_CONFIG)
  return { folder, weights: only, config }
}

export function missingFile(path: string, name: string): FileFormatError | UnsupportedError {
  const pickle = PICKLES.find((file) => existsSync(join(path, file)))
  if (pickle !== undefined && name === WEIGHTS)
    return new UnsupportedError(
      `${join(path, pickle)} is a pickle, which can run code when it is read, and is never opened; save the adapter again in PEFT with safe_serialization=True.`,
      { path },
    )
  return new FileFormatError(
    `${path} has no ${name}; an adapter folder holds ${ADAPTER_CONFIG} and ${WEIGHTS}.`,
    { path, name },
  )
}

/** PEFT's prefix before module and tensor names. */
const PREFIX = 'base_model.model.'

/**
 * Tensors under the names that PEFT saves: with its prefix, without the adapter's name `default`, and by the paths of
 * the text model where the adapter is of a multimodal one.
 */
function withPeftNames(header: SafetensorsHeader): AdapterHeader {
  const isBare = ![...header.tensors.keys()].some((name) => name.startsWith(PREFIX))
  const peftName = (name: string) => {
    const own = name
      .replace(/(\.lora_(?:embedding_)?[AB]|\.lora_magnitude_vector)\.default(?=\.|$)/, '$1')
      .replace(/(\.lora_magnitude_vector)\.weight$/, '$1')
    if (isBare) return PREFIX + flatName(own)
    return own.startsWith(PREFIX) ? PREFIX + flatName(own.slice(PREFIX.length)) : own
  }
  const tensors = [...header.tensors].map(([name, tensor]) => [peftName(name), tensor] as const)
  return { ...header, tensors: new Map(tensors) }
}

const A = /^base_model\.model\.(.+)\.lora_(?:A\.weight|embedding_A)$/

/** Ranks by the path of the module, from the shapes of A `[r, in]`. */
function ranksOf(header: AdapterHeader): Map<string, number> {
  const found = [...header.tensors].flatMap(([name, { shape }]) => {
    const [, module] = A.exec(name) ?? []
    return module === undefined ? [] : [[module, shape[0] ?? 0] as const]
  })
  return new Map(found)
}

const hasMagnitudes = ({ tensors }: AdapterHeader): boolean =>
  [...tensors.keys()].some((name) => name.endsWith('.lora_magnitude_vector'))

/** Keys of PEFT's config for ranks and alphas by module, most of which are equal. */
function rankFields(ranks: ReadonlyMap<string, number>, alphaOf: (module: string, rank: number) => number) {
  const alphas = new Map([...ranks].map(([module, rank]) => [module, alphaOf(module, rank)]))
  const fields = (values: ReadonlyMap<string, number>) => {
    const [common = 1] = values.values()
    const others = [...values].filter(([, value]) => value !== common)
    return [
      common,
      Object.fromEntries(others.map(([module, value]) => [pathPattern(module), value])),
    ] as const
  }
  const [r, rank_pattern] = fields(ranks)
  const [lora_alpha, alpha_pattern] = fields(alphas)
  return { r, lora_alpha, rank_pattern, alpha_pattern }
}

/** A pattern that matches only this path. */
const pathPattern = (path: string): string => path.replace(/[.*+?^${}()|[\]\\]/g, '\\$&')

/** A state dict of PEFT without a config: ranks are those of the shapes, alphas those of the file, or the ranks. */
async function stateDict(folder: string, header: AdapterHeader): Promise<AdapterFiles> {
  const ranks = ranksOf(header)
  const { alphas, others } = await alphasIn(header)
  const unknown = [...ranks.keys()].filter((module) => !alphas.has(module))
  const config = {
    peft_type: 'LORA',
    ...rankFields(ranks, (module, rank) => alphas.get(module) ?? rank),
    use_dora: hasMagnitudes(header),
  }
  const { r } = config
  const remarks =
    unknown.length === 0
      ? []
      : [
          `${header.path} has neither ${ADAPTER_CONFIG} beside it nor an alpha, so lora_alpha is taken to be the rank${Object.keys(config.rank_pattern).length === 0 ? ` (${r})` : ' of each module'}, which scales the adapter by 1. If it was trained with another, write {"peft_type": "LORA", "r": ${r}, "lora_alpha": ${2 * r}} with the right numbers to ${join(folder, ADAPTER_CONFIG)}.`,
        ]
  const tensors = new Map([...header.tensors].filter(([name]) => !others.has(name)))
  return { folder, program: null, configPath: header.path, config, header: { ...header, tensors }, remarks }
}

const ALPHA = /^base_model\.model\.(.+)\.(?:lora_)?alpha$/

/** Alphas by module: scalars beside A and B, or one number in the metadata. */
async function alphasIn(
  header: AdapterHeader,
): Promise<{ alphas: Map<string, number>; others: Set<string> }> {
  const alphas = new Map<string, number>()
  const others = new Set<string>()
  const whole = Number(header.metadata.get('lora_alpha') ?? header.metadata.get('alpha') ?? Number.NaN)
  if (whole > 0) for (const module of ranksOf(header).keys()) alphas.set(module, whole)
  for (const [name, { dtype, shape }] of header.tensors) {
    const [, module] = ALPHA.exec(name) ?? []
    if (module === undefined || shape.some((size) => size !== 1)) continue
    const [alpha] = toFloat32(dtype, await readTensor(header, name), `${header.path}: ${name}`)
    if (alpha === undefined || !(alpha > 0))
      throw new FileFormatError(`${header.path}: ${quote(name)} is ${alpha}, expected an alpha above 0.`, {
        path: header.path,
        tensor: name,
      })
    alphas.set(module, alpha)
    others.add(name)
  }
  return { alphas, others }
}

/** True for the config of an adapter of mlx-lm, which saves all options of its run. */
const isMlx = (fields: Readonly<Record<string, unknown>>): boolean =>
  'fine_tune_type' in fields || 'lora_parameters' in fields

function mlxWithout(path: string, { fine_tune_type: type }: Readonly<Record<string, unknown>>) {
  if (type === 'full')
    return new UnsupportedError(
      `${path} is of a run of mlx-lm with fine_tune_type full, which saves trained weights and no adapter; write the whole model with mlx_lm.fuse, and load that folder.`,
      { path },
    )
  return new FileFormatError(
    `${path} is of mlx-lm, but the weights beside it have no tensors of an adapter (…lora_a, …lora_b); copy ${MLX_WEIGHTS} there.`,
    { path },
  )
}

const MLX_TENSOR = /^(.+)\.(lora_a|lora_b|m)$/

/**
 * mlx-lm computes y += scale (x lora_a) lora_b with lora_a `[in, r]` and lora_b `[r, out]` (mlx_lm/tuner/lora.py), so
 * the factors are PEFT's transposed, and lora_alpha is scale times r. Its DoRA has PEFT's magnitudes, named `m`.
 */
async function mlxFiles(
  folder: string,
  configPath: string,
  fields: Readonly<Record<string, unknown>> | undefined,
  file: SafetensorsHeader,
): Promise<AdapterFiles> {
  if (fields === undefined)
    throw new FileFormatError(
      `${file.path} is an adapter of mlx-lm, but ${ADAPTER_CONFIG}, which holds its scale, is not beside it; copy it there.`,
      { path: file.path },
    )
  const scale = mlxScale(configPath, fields)
  const tensors = new Map<string, AdapterTensor>()
  for (const [name, tensor] of file.tensors) {
    const [, module = '', part] = MLX_TENSOR.exec(name) ?? []
    if (part === undefined)
      throw new UnsupportedError(
        `${file.path}: ${quote(name)} is not a part of an adapter of mlx-lm (lora_a, lora_b, m).`,
        { path: file.path, tensor: name },
      )
    const peft = peftTensor(file.path, flatName(module), part, tensor)
    tensors.set(peft.name, peft)
  }
  const header = { ...file, tensors }
  const { dropout } = fields.lora_parameters as { dropout?: unknown }
  const { model } = fields
  const config = {
    peft_type: 'LORA',
    ...rankFields(ranksOf(header), (_, rank) => scale * rank),
    lora_dropout: typeof dropout === 'number' ? dropout : 0,
    use_dora: hasMagnitudes(header),
    base_model_name_or_path: typeof model === 'string' ? model : null,
    // In mlx-lm an adapter of the embedding also acts in the head that shares its weight.
    ensure_weight_tying: [...tensors.keys()].some((name) => name.endsWith('.lora_embedding_A')),
  }
  return { folder, program: 'mlx-lm', configPath, config, header, remarks: [] }
}

function mlxScale(path: string, fields: Readonly<Record<string, unknown>>): number {
  const parameters = fields.lora_parameters
  const scale = (parameters as { scale?: unknown } | null | undefined)?.scale
  if (typeof scale === 'number' && scale > 0) return scale
  throw new FileFormatError(
    `${path}: lora_parameters.scale is ${quote(scale ?? null)}, expected a number above 0, as mlx-lm saves it.`,
    { path, value: scale },
  )
}

function peftTensor(path: string, module: string, part: string, tensor: SafetensorsTensor): AdapterTensor {
  const { shape } = tensor
  if (part === 'm') return { ...tensor, name: `${PREFIX}${module}.lora_magnitude_vector` }
  const [rows, cols] = shape
  if (shape.length !== 2 || rows === undefined || cols === undefined)
    throw new UnsupportedError(
      `${path}: ${quote(tensor.name)} is [${shape.join(', ')}], as for the experts of a mixture; only adapters of linears and of the embedding can be read.`,
      { path, tensor: tensor.name, shape },
    )
  const letter = part === 'lora_a' ? 'A' : 'B'
  const name = /(^|\.)embed_tokens$/.test(module)
    ? `${PREFIX}${module}.lora_embedding_${letter}`
    : `${PREFIX}${module}.lora_${letter}.weight`
  return { ...tensor, name, shape: [cols, rows], transposed: true }
}
