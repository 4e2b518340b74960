/** Ollama's Modelfile: where the weights are, how a chat becomes a prompt, and where an answer ends. */

import type { PromptFormat } from '../formats/prompt-format.js'
import type { Tokenizer } from '../tokenizer/tokenizer.js'
import { goText } from './dates.js'
import type { Turns, Wrapping } from './turns.js'

/** Ollama's default is smaller than most models support, but its memory reservation grows with the context. */
const LARGEST_CONTEXT = 8192

export interface ModelfileParts {
  /** File names, relative to the folder. */
  model: string
  adapter: string | undefined
  turns: Turns | undefined
  /** Prompt format used in training; null if unknown. */
  format: PromptFormat | null
  /** Stop sequences. */
  stops: readonly string[]
  /** Context length of the model, in tokens. */
  context: number | undefined
}

export function modelfileText({ model, adapter, turns, format, stops, context }: ModelfileParts): string {
  const lines = [`FROM ./${model}`]
  if (adapter !== undefined) lines.push(`ADAPTER ./${adapter}`)
  if (turns !== undefined) lines.push(`TEMPLATE ${quoted(goTemplate(turns))}`)
  else if (format?.form === 'raw') lines.push(`TEMPLATE ${quoted(rawTemplate(format))}`)
  const system = format !== null && saysSystem(format, turns) ? format.system : null
  const told = system ?? turns?.defaultSystem ?? ''
  if (told !== '') lines.push(`SYSTEM ${quoted(told)}`)
  for (const stop of stops) lines.push(`PARAMETER stop ${JSON.stringify(stop)}`)
  if (context !== undefined) lines.push(`PARAMETER num_ctx ${Math.min(context, LARGEST_CONTEXT)}`)
  return `${lines.join('\n')}\n`
}

/** True if the system prompt used in training can be written in a Modelfile; raw text has none. */
export function saysSystem({ form, system }: PromptFormat, turns: Turns | undefined): boolean {
  if (form === 'raw' || system === null) return true
  return turns !== undefined && turns.system !== null && !system.includes('"""')
}

function rawTemplate({ prefix, suffix }: PromptFormat): string {
  return `${literal(prefix)}{{ .Prompt }}${literal(suffix)}`
}

/** Modelfiles have no escapes within triple quotes, so text containing triple quotes cannot be written. */
function quoted(text: string): string {
  return `"""${text}"""`
}

/** True if every text of a template can be written in a Modelfile. */
export function fitsModelfile(turns: Turns): boolean {
  return !goTemplate(turns).includes('"""') && !turns.defaultSystem.includes('"""')
}

/**
 * The template in Go's template language, as run by Ollama: it iterates over `.Messages`, which start with the system
 * prompt if there is one; `.System` holds the same prompt.
 */
export function goTemplate({ system, user, assistant, between, opening, generation }: Turns): string {
  const around = ({ before, after }: Wrapping, content: string) =>
    `${literal(before)}${content}${literal(after)}`
  const start = opening === '' ? '' : `{{ if not .System }}${literal(opening)}{{ end }}`
  const again = between === '' ? '' : `{{ if gt $i 1 }}${literal(between)}{{ end }}`
  const inside = () => {
    if (system === null || system.place === 'turn') return ''
    const here = system.place === 'first' ? 'lt $i 2' : 'eq (len (slice $.Messages $i)) 1'
    return `{{ if and $.System (${here}) }}${around(system, '{{ $.System }}')}{{ end }}`
  }
  const branches = [
    system?.place === 'turn'
      ? `{{ if eq $m.Role "system" }}${around(system, '{{ $m.Content }}')}{{ else if eq $m.Role "user" }}`
      : '{{ if eq $m.Role "user" }}',
    again,
    around({ before: user.before, after: '' }, `${inside()}{{ $m.Content }}${literal(user.after)}`),
    `{{ else if eq $m.Role "assistant" }}${around(assistant, '{{ $m.Content }}')}{{ end }}`,
  ]
  return `${start}{{ range $i, $m := .Messages }}${branches.join('')}{{ end }}${literal(generation)}`
}

/** Text in the template language: delimiters are escaped, and dates inserted. */
function literal(text: string): string {
  return goText(text, (part) => (part.includes('{{') ? `{{ ${JSON.stringify(part)} }}` : part))
}

/** Stop sequences: the end tokens, the text that closes an answer, and the text that opens the next turn. */
export function stopTexts(tokenizer: Tokenizer, turns: Turns | undefined): string[] {
  const special = (text: string) => {
    const [, token] = /^\s*(<[^<>\s]+>)/.exec(text) ?? []
    const id = token === undefined ? undefined : tokenizer.tokenToId(token)
    return token !== undefined && id !== undefined && tokenizer.isSpecial(id) ? [token] : []
  }
  const ends = tokenizer.eosIds.flatMap((id) => tokenizer.idToToken(id) ?? [])
  return [
    ...new Set([
      ...ends,
      ...(turns ? [...special(turns.assistant.after), ...special(turns.user.before)] : []),
    ]),
  ]
}
