/**
 * Converts Alpaca rows to training examples: a chat if the model has a chat template, otherwise the prompt of
 * Stanford Alpaca (Taori et al. 2023), whose wording is part of the format.
 */
import type { AlpacaRow, MessagesRow, PromptCompletionRow } from './forms.js'
import { type RowPlace, rowError } from './place.js'

const placeOf = ({ path, line, unit }: RowPlace): RowPlace => ({ path, line, ...(unit ? { unit } : {}) })

/** A chat with the instruction and its input as one message, and an earlier turn for every entry of the history. */
export function alpacaChat(row: AlpacaRow): MessagesRow {
  const { instruction, input, output, system, history } = row
  const turn = (question: string, answer: string) => [
    { role: 'user', content: question },
    { role: 'assistant', content: answer },
  ]
  return {
    format: 'messages',
    messages: [
      ...(system === undefined ? [] : [{ role: 'system', content: system }]),
      ...history.flatMap(([question, answer]) => turn(question, answer)),
      ...turn(input === '' ? instruction : `${instruction}\n${input}`, output),
    ],
    ...placeOf(row),
  }
}

const WITHOUT_INPUT =
  'Below is an instruction that describes a task. Write a response that appropriately completes the request.'
const WITH_INPUT =
  'Below is an instruction that describes a task, paired with an input that provides further context. Write a response that appropriately completes the request.'

/** The text of the Alpaca prompt before and after an instruction without input. */
export function alpacaAffixes({ system }: AlpacaRow): { prefix: string; suffix: string } {
  return {
    prefix: `${system ?? WITHOUT_INPUT}\n\n### Instruction:\n`,
    suffix: '\n\n### Response:\n',
  }
}

/** @throws {DataError} when there are earlier turns, which the Alpaca prompt does not support */
export function alpacaText(row: AlpacaRow): PromptCompletionRow {
  const { instruction, input, output, system, history } = row
  if (history.length > 0)
    throw rowError(
      row,
      '"history" needs a chat template, and the model has none; leave it out, or use messages',
    )
  const introduction = system ?? (input === '' ? WITHOUT_INPUT : WITH_INPUT)
  const parts = [introduction, `### Instruction:\n${instruction}`]
  if (input !== '') parts.push(`### Input:\n${input}`)
  return {
    format: 'prompt_completion',
    prompt: [...parts, '### Response:\n'].join('\n\n'),
    completion: output,
    ...placeOf(row),
  }
}
