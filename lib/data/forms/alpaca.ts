/**
 * Alpaca's instructions: a chat if the model has a chat template, otherwise the prompt of Stanford Alpaca (Taori et al.
 * 2023), whose wording is part of the format.
 */
import { describe, rowError } from '../dataset/place.js'
import type { AlpacaRow } from '../rows.js'
import type { Form, Plain } from './form.js'
import { chatAt, turn } from './turns.js'

const WITHOUT_INPUT =
  'Below is an instruction that describes a task. Write a response that appropriately completes the request.'
const WITH_INPUT =
  'Below is an instruction that describes a task, paired with an input that provides further context. Write a response that appropriately completes the request.'

export const alpaca: Form<AlpacaRow> = {
  name: 'alpaca',
  precedence: 60,
  expected: '{"instruction": …, "output": …}',
  columns: { instruction: 'the instruction', output: 'the output' },
  optional: { input: 'the input', history: 'earlier turns', system: 'the system prompt' },
  read(value, { place, wrong, parsed }) {
    const { instruction, output } = value
    if (typeof instruction !== 'string') throw wrong('instruction')
    if (typeof output !== 'string') throw wrong('output')
    const optional = (key: 'input' | 'system') => {
      const text = value[key] ?? ''
      if (typeof text !== 'string') throw rowError(place, `"${key}" must be a string, not ${describe(text)}`)
      return text
    }
    const history = parsed(value.history ?? [], 'history')
    const isPair = (pair: unknown) =>
      Array.isArray(pair) && pair.length === 2 && pair.every((part) => typeof part === 'string')
    if (!Array.isArray(history) || !history.every(isPair))
      throw rowError(place, `"history" must be a list of [question, answer], not ${describe(value.history)}`)
    const system = optional('system')
    return {
      format: 'alpaca',
      instruction,
      input: optional('input'),
      output,
      ...(system === '' ? {} : { system }),
      history: history as [string, string][],
      ...place,
    }
  },
  rows: {
    chat: (row, { instructions, system }) =>
      instructions ? chatAt(row, row.system ?? system, turnsOf(row)) : undefined,
    hasHistory: true,
    plain,
    around: ({ system }) => ({
      prefix: `${system ?? WITHOUT_INPUT}\n\n### Instruction:\n`,
      suffix: '\n\n### Response:\n',
    }),
    question: ({ instruction, input, output, history, system = null }) =>
      input !== '' || history.length > 0 ? undefined : { prompt: instruction, expected: output, system },
    opening: ({ instruction }) => instruction.trim(),
    prompt: ({ system, history, instruction, input }) => [system, history, instruction, input],
    texts: ({ instruction, input, output, system = '', history }) => [
      ...[instruction, input, output, system],
      ...history.flat(),
    ],
    empty: () => 'the output is empty',
  },
}

/** The instruction and its input as one message, after a turn for every entry of the history. */
function turnsOf({ instruction, input, output, history }: AlpacaRow) {
  const last = turn(input === '' ? instruction : `${instruction}\n${input}`, output)
  return [...history.flatMap(([question, answer]) => turn(question, answer)), ...last]
}

/** @throws {DataError} when there are earlier turns, which the Alpaca prompt does not support */
function plain(row: AlpacaRow): Plain {
  const { instruction, input, output, system, history } = row
  if (history.length > 0)
    throw rowError(
      row,
      '"history" needs a chat template, and the model has none; leave it out, or use messages',
    )
  const introduction = system ?? (input === '' ? WITHOUT_INPUT : WITH_INPUT)
  const parts = [introduction, `### Instruction:\n${instruction}`]
  if (input !== '') parts.push(`### Input:\n${input}`)
  return { prompt: [...parts, '### Response:\n'].join('\n\n'), completion: output }
}
