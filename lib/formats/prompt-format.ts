/**
 * Prompt format: the format of the training, as plain data. It is stored with the result of a run, in
 * lowrank.json of a folder or in the metadata of a GGUF file, and whatever uses the result follows it.
 */
import { createHash } from 'node:crypto'
import { FileFormatError } from '../core/errors.js'
import { quote } from '../core/quote.js'

/** File beside an adapter or a model for settings that their own formats have no key for. */
export const SIDECAR = 'lowrank.json'
export const SIDECAR_VERSION = 1
export const SIDECAR_LIMIT = 16 << 20
const KEY = 'prompt_format'
/** The same in the metadata of a GGUF file, as JSON text. */
export const GGUF_PROMPT_FORMAT = 'lowrank.prompt_format'

/** Prompt format of a model. */
export interface PromptFormat {
  /** `chat`: as turns of a chat template; `raw`: as text. */
  readonly form: 'chat' | 'raw'
  /** `chat`: the template, in Jinja; null for the default of the model. */
  readonly template: string | null
  /** `chat`: family of the template of the package that the rows were rendered by; absent for `template` itself. */
  readonly trainingTemplate?: string
  /** `chat`: false if prompts say that answers have no reasoning (`enable_thinking: false`); absent otherwise. */
  readonly thinking?: false
  /** `chat`: the system prompt that every row of the data had; null if they had none, or not all the same. */
  readonly system: string | null
  /** `raw`: text before and after every prompt, such as the words of Alpaca. */
  readonly prefix: string
  readonly suffix: string
  /** Tokens that end an answer, as text. */
  readonly stop: readonly string[]
}

/** True if two formats give the same prompts. */
export function sameFormat(a: PromptFormat, b: PromptFormat): boolean {
  return JSON.stringify(formatToFile(a)) === JSON.stringify(formatToFile(b))
}

/** The entry of a file, keys in snake_case. */
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
 * Checks a format read from a file, which is untrusted.
 * @param where names the file in messages
 * @returns null where there is no entry
 * @throws {FileFormatError} for an entry that is malformed
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

/** Prompt format in the parsed lowrank.json. */
export function formatOfSidecar(sidecar: Record<string, unknown>, file: string): PromptFormat | null {
  return formatFromFile(sidecar[KEY], file)
}

/** The entry of lowrank.json; nothing for no format. */
export function sidecarEntry(format: PromptFormat | null): Record<string, unknown> {
  return format === null ? {} : { [KEY]: formatToFile(format) }
}

/** Prompt format in the metadata of a GGUF file. */
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
