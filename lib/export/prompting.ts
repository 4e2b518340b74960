/**
 * The training prompt format in exported models: recorded in the files, with remarks about parts that cannot be
 * expressed.
 */

import { type GgufField, ggufField } from '../formats/gguf-fields.js'
import { formatToFile, GGUF_PROMPT_FORMAT, type PromptFormat } from '../formats/prompt-format.js'
import { formatOf, isRecorded } from '../train/rows/prompting.js'
import type { Subject } from './drift.js'

/** The prompt format of the model with its adapters; null if unknown. */
export function exportedFormat({ base, adapters }: Subject): PromptFormat | null {
  const format = formatOf(base, adapters)
  return isRecorded(format) ? format : null
}

/** The prompt format as GGUF metadata. */
export function formatFields(subject: Subject): GgufField[] {
  const format = exportedFormat(subject)
  return format === null ? [] : [ggufField.string(GGUF_PROMPT_FORMAT, JSON.stringify(formatToFile(format)))]
}

/** Remarks for users of other programs, which ignore the record; sentences. */
export async function formatRemarks(subject: Subject): Promise<string[]> {
  const format = exportedFormat(subject)
  if (format === null) return []
  const { chatTemplate } = await subject.base.tokenizerSource()
  if (format.form === 'raw')
    return chatTemplate === undefined
      ? []
      : [
          'the model was trained on raw text, but other programs will use its chat template; pass them the prompt as raw text',
        ]
  const remarks: string[] = []
  if (format.system !== null)
    remarks.push(
      `all rows of the training had the system prompt ${JSON.stringify(format.system)}; lowrank adds it automatically, but other programs need it in the prompt`,
    )
  if (format.thinking === false)
    remarks.push(
      'no answer of the training had reasoning, and the prompts said so; lowrank sets enable_thinking: false for the chat template automatically, but other programs need to be told',
    )
  if (format.template !== null && format.template !== chatTemplate)
    remarks.push(
      'the chat template of the training differs from the one of the model; lowrank uses the former, other programs use the latter',
    )
  return remarks
}
