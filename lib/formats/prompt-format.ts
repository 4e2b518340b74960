/**
 * Prompt format used in training, as plain data. It is stored with the result of a run, in lowrank.json or in GGUF
 * metadata, and applied wherever the result is used.
 */
import { createHash } from 'node:crypto'
import { FileFormatError } from '../core/errors.js'
import { quote } from '../core/quote.js'

/** File next to an adapter or a model for settings that their own formats have no keys for. */
export const SIDECAR = 'lowrank.json'
export const SIDECAR_VERSION = 1
export const SIDECAR_LIMIT = 16 << 20
const KEY = 'prompt_format'
/** The corresponding GGUF metadata key; its value is JSON text. */
export const GGUF_PROMPT_FORMAT = 'lowrank.prompt_format'

/** Prompt format of a model. */
export interface PromptFormat {
  /** `chat`: rendered with a chat template; `raw`: plain text. */
  readonly form: 'chat' | 'raw'
  /** `chat`: the Jinja template; null for the model's default. */
  readonly template: string | null
  /**
   * `chat`: family of the bundled training template with which the rows were rendered; absent if it was `template`
   * itself.
   */
  readonly trainingTemplate?: string
  /** `chat`: false if prompts ask for answers without reasoning (`enable_thinking: false`); absent otherwise. */
  readonly thinking?: false
  /** `chat`: the system prompt shared by all rows of the data; null if there was none, or they differed. */
  readonly system: string | null
  /** `raw`: text before and after every prompt, such as Alpaca's instructions. */
  readonly prefix: string
  readonly suffix: string
  /** Tokens that end an answer, as text. */
  readonly stop: readonly string[]
}

/** True if two formats render the same prompts. */
export function sameFormat(a: PromptFormat, b: PromptFormat): boolean {
  return JSON.stringify(formatToFile(a)) === JSON.stringify(formatToFile(b))
}

/** Converts a format to its entry in a file, with snake_case keys. */
export function formatToFile(format: PromptFormat) {
  const { form, template, trainingTemplate, thinking, system, prefix, suffix, stop } = format
  if (form === 'raw') return { form, ...(prefix || suffix ? { prefix, suffix } : {}), stop }
  const hash = template === null ? null : createHash('sha256').update(template).digest('hex')
  return {
    ...{ form, template, template_sha256: hash },
    ...(trainingTemplate === undefined ? {} : { training_template: trainingTemplate }),
    ...(thinking === undefined ? {} : { thinking }),
    ...{ system, stop },
  }
}

/**
 * Validates a format read from a file, which is untrusted.
 * @param where names the file in messages
 * @returns null if there is no entry
 * @throws {FileFormatError} for a malformed entry
 */
function formatFromFile(value: unknown, where: string): PromptFormat | null {
  if (value === undefined || value === null) return null
  const wrong = (key: string, found: unknown, expected: string) =>
    new FileFormatError(
      `${where}: ${key} is ${quote(JSON.stringify(found) ?? 'missing')}, expected ${expected}; if the file was edited, restore it.`,
      { path: where, key },
    )
  if (typeof value !== 'object' || Array.isArray(value)) throw wrong(KEY, value, 'an object')
  const entry = value as Record<string, unknown>
  const { form } = entry
  if (form !== 'chat' && form !== 'raw') throw wrong(`${KEY}.form`, form, 'chat or raw')
  const text = <T>(key: string, absent: T): string | T => {
    const found = entry[key]
    if (typeof found === 'string') return found
    if (found === undefined || found === null) return absent
    throw wrong(`${KEY}.${key}`, found, 'a text')
  }
  const stop = entry.stop ?? []
  if (!Array.isArray(stop) || stop.length > 64 || !stop.every((one) => typeof one === 'string'))
    throw wrong(`${KEY}.stop`, stop, 'a list of texts')
  const trainingTemplate = text('training_template', undefined)
  const { thinking } = entry
  if (thinking !== undefined && typeof thinking !== 'boolean')
    throw wrong(`${KEY}.thinking`, thinking, 'true or false')
  return {
    form,
    template: text('template', null),
    ...(trainingTemplate === undefined ? {} : { trainingTemplate }),
    ...(thinking === false ? { thinking } : {}),
    system: text('system', null),
    prefix: text('prefix', ''),
    suffix: text('suffix', ''),
    stop: stop as string[],
  }
}

/** Reads the prompt format from a parsed lowrank.json. */
export function formatOfSidecar(sidecar: Record<string, unknown>, file: string): PromptFormat | null {
  return formatFromFile(sidecar[KEY], file)
}

/** The entry for lowrank.json; empty without a format. */
export function sidecarEntry(format: PromptFormat | null): Record<string, unknown> {
  return format === null ? {} : { [KEY]: formatToFile(format) }
}

/** Reads the prompt format from GGUF metadata. */
export function formatFromGguf(value: unknown, path: string): PromptFormat | null {
  if (typeof value !== 'string') return null
  let parsed: unknown
  try {
    parsed = JSON.parse(value)
  } catch (cause) {
    throw new FileFormatError(`${path}: ${GGUF_PROMPT_FORMAT} is not valid JSON`, { path }, { cause })
  }
  return formatFromFile(parsed, path)
}
