/**
 * Writes a folder for `ollama create`: the model as a GGUF file, optionally the adapter as another, and a Modelfile.
 */
import { join } from 'node:path'
import type { TensorControl } from '../formats/tensor-data.js'
import { writeFileWhole } from '../io/atomic.js'
import { writeFolder } from '../io/atomic-folder.js'
import type { FileType } from '../native/addon.js'
import { withTemplate } from '../tokenizer/source.js'
import { loadTokenizer } from '../tokenizer/tokenizer.js'
import { askedOf } from '../train/rows/prompting.js'
import type { Subject } from './drift.js'
import { writeGgufModel } from './gguf.js'
import { writeGgufLora } from './gguf-lora.js'
import { fitsModelfile, modelfileText, saysSystem, stopTexts } from './modelfile.js'
import { exportedFormat, formatRemarks } from './prompting.js'
import { turnsOf } from './turns.js'
import type { MergeBase } from './weights.js'

export const MODEL_FILE = 'model.gguf'
export const ADAPTER_FILE = 'adapter.gguf'
export const MODELFILE = 'Modelfile'

/**
 * Writes the folder.
 * @param options.separate leave the model unchanged and write the adapter as a separate file
 * @returns the file names, and differences in how Ollama runs the model, as sentences
 */
export async function writeOllama(
  path: string,
  subject: Subject,
  { dtype, onto, separate }: { dtype: FileType; onto: MergeBase; separate: boolean },
  control: TensorControl,
): Promise<{ files: string[]; remarks: string[] }> {
  const { base } = subject
  // Validates the tokenizer in its worker first, so that a bad one cannot crash this process.
  await base.tokenizer()
  const own = await base.tokenizerSource()
  const format = exportedFormat(subject)
  const source = withTemplate(own, format?.template)
  const tokenizer = loadTokenizer(source)
  const bos = tokenizer.addsBos ? (tokenizer.idToToken(tokenizer.bosId as number) ?? '') : ''
  const chats = source.chatTemplate !== undefined && format?.form !== 'raw'
  const found = chats ? await turnsOf(source, bos, askedOf(format)) : undefined
  const turns = found !== undefined && fitsModelfile(found) ? found : undefined
  const context = base.files.config.max_position_embeddings
  const text = modelfileText({
    model: MODEL_FILE,
    adapter: separate ? ADAPTER_FILE : undefined,
    turns,
    format,
    stops: [...new Set([...(format?.stop ?? []), ...stopTexts(tokenizer, turns)])],
    context: typeof context === 'number' ? context : undefined,
  })
  const remarks: string[] = []
  await writeFolder(path, async (folder) => {
    const merged = separate ? { base, adapters: [] } : subject
    remarks.push(...(await writeGgufModel(join(folder, MODEL_FILE), merged, { dtype, onto }, control)))
    if (separate) await writeGgufLora(join(folder, ADAPTER_FILE), subject, 'f32', control)
    await writeFileWhole(join(folder, MODELFILE), text)
  })
  if (format !== null && !saysSystem(format, turns)) remarks.push(...(await formatRemarks(subject)))
  if (turns === undefined && format?.form !== 'raw')
    remarks.push(
      source.chatTemplate === undefined
        ? 'the model has no chat template, so the Modelfile has no TEMPLATE, and Ollama passes prompts unchanged'
        : 'the chat template of the model is too complex for a Modelfile, so it has no TEMPLATE: Ollama checks whether it knows the one in the GGUF file',
    )
  return { files: [MODELFILE, ...(separate ? [ADAPTER_FILE] : []), MODEL_FILE], remarks }
}
