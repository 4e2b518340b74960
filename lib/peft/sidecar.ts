/** lowrank.json of an adapter folder: what PEFT's files have no keys for. */
import { FileFormatError } from '../core/errors.js'
import { quote } from '../core/quote.js'
import {
  formatOfSidecar,
  type PromptFormat,
  SIDECAR,
  SIDECAR_VERSION,
  sidecarEntry,
} from '../formats/prompt-format.js'
import { readJsonObject } from '../io/input.js'
import { fileInsideIfAny } from '../io/inside.js'
import { readStrategy, strategyToFile } from '../strategies/index.js'
import type { PrivacyReport } from '../strategies/privacy-report.js'
import type { AdapterDescription, StrategyConfig } from '../strategies/strategy.js'
import { quantizationFrom, type TrainingDefaults } from '../weights/quantization.js'

/** The base model of the adapter. */
export interface AdapterBase {
  /** Path or Hub id, for `base_model_name_or_path`. */
  name: string | null
  /** Commit on the Hub, for `revision`. */
  revision?: string | null
  /** Content hash of the model's files. */
  fingerprint: string
  /** Quantization of its linear layers: `none`, `nf4`, … */
  quantization: string
  /** Quantization of the embedding and the head, if not the default. */
  embeddingQuantization?: string
  /** True if it is the text model of a multimodal one, whose modules have different names in PEFT. */
  multimodal?: boolean
}

/** Facts about an adapter's training that lowrank.json keeps. */
export interface SidecarFacts {
  /** The training strategy, if it differs from the saved form. */
  trainedAs?: StrategyConfig
  /** Privacy spent by its private trainings. */
  privacy?: readonly PrivacyReport[]
  /** Prompt format used in training. */
  format?: PromptFormat | null
}

export function sidecarText(
  description: AdapterDescription,
  base: AdapterBase,
  { trainedAs, privacy = [], format = null }: SidecarFacts,
): string {
  const sidecar = {
    version: SIDECAR_VERSION,
    strategy: strategyToFile(description.strategy),
    ...(trainedAs === undefined ? {} : { trained_as: strategyToFile(trainedAs) }),
    base: {
      fingerprint: base.fingerprint,
      quantization: base.quantization,
      ...(base.embeddingQuantization && { embedding_quantization: base.embeddingQuantization }),
    },
    ...(privacy.length === 0 ? {} : { privacy }),
    ...labelsEntry(description.labels),
    ...sidecarEntry(format),
  }
  return `${JSON.stringify(sidecar, null, 2)}\n`
}

/** Class names and ids in the format of a classifier's config.json. */
function labelsEntry(labels: readonly string[] | null) {
  if (labels === null) return {}
  const pairs = labels.map((label, id) => [String(id), label] as const)
  return {
    id2label: Object.fromEntries(pairs),
    label2id: Object.fromEntries(pairs.map(([id, label]) => [label, Number(id)])),
  }
}

/** Quantization of the base when the adapter was trained by lowrank; empty if unknown. */
export async function recordedQuantization(path: string): Promise<TrainingDefaults> {
  const file = await fileInsideIfAny(path, SIDECAR)
  if (file === undefined) return {}
  const { base } = await readJsonObject(file, 16 << 20)
  const said = (key: string) => {
    const words = (base as Record<string, unknown> | null | undefined)?.[key]
    return typeof words === 'string' ? quantizationFrom(words) : undefined
  }
  const quantization = said('quantization')
  const embeddingQuantization = said('embedding_quantization')
  return { ...(quantization && { quantization }), ...(embeddingQuantization && { embeddingQuantization }) }
}

/** Contents of lowrank.json; null if it does not exist. */
export async function readSidecar(path: string): Promise<{
  strategy: StrategyConfig
  fingerprint: string | null
  privacy: readonly PrivacyReport[]
  format: PromptFormat | null
  labels: readonly string[] | null
} | null> {
  const file = await fileInsideIfAny(path, SIDECAR)
  if (file === undefined) return null
  const sidecar = await readJsonObject(file, 16 << 20)
  const { version, strategy, base, privacy } = sidecar
  if (version !== SIDECAR_VERSION)
    throw new FileFormatError(
      `${file}: version is ${version === undefined ? 'missing' : quote(version)}, but this version of lowrank reads version ${SIDECAR_VERSION}; ${Number(version) > SIDECAR_VERSION ? 'update lowrank' : `delete the file to load only the PEFT files beside it`}.`,
      { path: file, version },
    )
  const fingerprint = (base as { fingerprint?: unknown } | null | undefined)?.fingerprint
  return {
    strategy: readStrategy(strategy, { name: file, spelling: 'snake', at: 'strategy' }),
    fingerprint: typeof fingerprint === 'string' ? fingerprint : null,
    privacy: Array.isArray(privacy) ? (privacy as PrivacyReport[]) : [],
    format: formatOfSidecar(sidecar, file),
    labels: namesOf(sidecar.id2label),
  }
}

function namesOf(id2label: unknown): readonly string[] | null {
  if (typeof id2label !== 'object' || id2label === null) return null
  const names = Object.values(id2label)
  return names.every((name) => typeof name === 'string') ? names : null
}
