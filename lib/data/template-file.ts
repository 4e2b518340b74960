/** Reads chat templates from separate files, which replace the model's own. */
import { FileFormatError } from '../core/errors.js'
import { readText } from '../io/input.js'
import { ChatTemplate } from '../tokenizer/chat-template.js'
import type { EncodeRowOptions } from './encoded-row.js'

const SIZE_LIMIT = 1 << 20

/**
 * The options with the content of their template file.
 * @throws {FileFormatError} when the file cannot be read or is not a template
 */
export async function withTemplateFile(options: EncodeRowOptions): Promise<EncodeRowOptions> {
  const { templateFile, ...prompting } = options.prompting ?? { prompts: true, instructions: true }
  if (templateFile === undefined) return options
  return { ...options, prompting: { ...prompting, template: await readTemplate(templateFile) } }
}

async function readTemplate(path: string): Promise<string> {
  const template = await readText(path, SIZE_LIMIT)
  if (template.trim() === '') throw new FileFormatError(`${path}: the chat template is empty`, { path })
  try {
    new ChatTemplate(template, {})
  } catch (cause) {
    throw new FileFormatError(`${path}: ${(cause as Error).message}`, { path }, { cause })
  }
  return template
}
