/** The slash commands of `lowrank chat`. */
import { existsSync } from 'node:fs'
import { resolve } from 'node:path'
import { nearest } from '../core/schema.js'
import { namesOf } from '../data/prompt-tools.js'
import { writeFileWhole } from '../io/atomic.js'
import type { Chat } from '../model/chat.js'
import type { Model } from '../model/model.js'
import type { ChatMessage } from '../tokenizer/message.js'
import { pythonJson } from '../tokenizer/python-text.js'
import { UsageError } from './errors.js'
import { table } from './format.js'
import type { Output } from './output.js'

/** Context of a command. */
export interface Talk {
  model: Model
  chat: Chat
  output: Output
  /** Weights of the adapters at the start of the chat. */
  atStart: ReadonlyMap<string, number>
  /** Files that this chat has written, and may overwrite. */
  savedTo: Set<string>
  /** Results of tools that wait for the next `/tool`. */
  held: ChatMessage[]
  /** Sends a text, as a user message unless others are given, and shows the answer. */
  ask(text: string, messages?: readonly ChatMessage[]): Promise<void>
  /** Ends the chat after this line. */
  leave(): void
}

interface ChatCommand {
  /** Names of the command; the first one is shown in the help. */
  names: readonly string[]
  argument?: string
  summary: string
  run(talk: Talk, argument: string): Promise<void>
}

const COMMANDS: readonly ChatCommand[] = [
  {
    names: ['help', '?'],
    summary: 'list the commands',
    run: async ({ output }) => {
      output.note(commandHelp())
    },
  },
  {
    names: ['reset'],
    summary: 'clear the history',
    run: async ({ chat, held, output }) => {
      chat.reset()
      held.length = 0
      output.note('The history is cleared.')
      output.event<'chat'>({ event: 'reset' })
    },
  },
  {
    names: ['adapter'],
    argument: '[on|off|NAME[=WEIGHT]…]',
    summary:
      'show the adapters, or switch to those of the start, to none, or to the named ones, which clears the history',
    run: async (talk, argument) => {
      const before = weightsOf(talk.model)
      if (argument !== '') switchAdapters(talk, argument)
      tellAdapters(talk)
      forgetAnswers(talk, before)
    },
  },
  {
    names: ['system'],
    argument: '[off|TEXT]',
    summary: 'show, remove, or set the system prompt',
    run: async ({ chat, output }, argument) => {
      if (argument !== '') chat.system = argument === 'off' ? null : argument
      output.note(chat.system === null ? 'There is no system prompt.' : `System prompt: ${chat.system}`)
      output.event<'chat'>({ event: 'system', system: chat.system })
    },
  },
  {
    names: ['tool'],
    argument: '[NAME] RESULT',
    summary: 'answer the call of a tool with its result',
    run: async (talk, argument) => {
      const results = [...talk.held, resultIn('tool', argument, talk)]
      await talk.ask(results.map(({ content }) => content).join('\n'), results)
      talk.held.length = 0
    },
  },
  {
    names: ['hold'],
    argument: '[NAME] RESULT',
    summary: 'hold a result for the next /tool, if the answer has several calls',
    run: async (talk, argument) => {
      const { held, output } = talk
      held.push(resultIn('hold', argument, talk))
      output.note(
        `Held; /tool sends ${held.length === 1 ? 'it' : `these ${held.length}`} with the last result.`,
      )
      output.event<'chat'>({ event: 'hold', results: held.length })
    },
  },
  {
    names: ['save'],
    argument: 'FILE',
    summary: 'save the chat as a training row for `lowrank train`',
    run: async (talk, argument) => {
      await save(talk, argument)
    },
  },
  { names: ['exit', 'quit'], summary: 'leave', run: async (talk) => talk.leave() },
]

/** Help text with one line per command. */
export function commandHelp(): string {
  const rows = COMMANDS.map(({ names: [name], argument, summary }) => [
    `  /${name}${argument === undefined ? '' : ` ${argument}`}`,
    summary,
  ])
  return table([...rows, ['  //TEXT', 'send a text that begins with a slash']])
}

/** Runs the command of a line such as `/save chat.jsonl`. */
export async function runCommand(talk: Talk, line: string): Promise<void> {
  const [, name = '', argument = ''] = /^\/(\S*)\s*(.*)$/s.exec(line) ?? []
  const command = COMMANDS.find(({ names }) => names.includes(name))
  if (command !== undefined) return command.run(talk, argument.trim())
  const near = nearest(
    name,
    COMMANDS.map(({ names: [first = ''] }) => first),
  )
  const advice = near === undefined ? '/help lists them all.' : `did you mean /${near}?`
  throw new UsageError(`there is no command /${name}; ${advice}`, { command: name })
}

/** Weights of a model's adapters by name. */
export function weightsOf(model: Model): ReadonlyMap<string, number> {
  return new Map(model.adapters.map(({ name, weight }) => [name, weight]))
}

function switchAdapters({ model, atStart }: Talk, argument: string): void {
  if (model.adapters.length === 0)
    throw new UsageError('no adapter was loaded; start the chat with --adapter.')
  if (argument === 'off') model.use()
  else if (argument === 'on') model.use(...[...atStart].map(([adapter, weight]) => ({ adapter, weight })))
  else model.use(...argument.split(/\s+/).map(choice))
}

/** Clears the history if the adapters changed, since earlier answers would influence the next one. */
function forgetAnswers({ model, chat, held, output }: Talk, before: ReadonlyMap<string, number>): void {
  const same = model.adapters.every(({ name, weight }) => before.get(name) === weight)
  if (same || chat.messages.length === 0) return
  chat.reset()
  held.length = 0
  output.note('The history is cleared, because earlier answers would influence the next one.')
  output.event<'chat'>({ event: 'reset' })
}

/** Parses `name` or `name=0.5`. */
function choice(word: string): { adapter: string; weight: number } {
  const [, adapter = word, weight = '1'] = /^(.+)=(.*)$/.exec(word) ?? []
  return { adapter, weight: weight.trim() === '' ? Number.NaN : Number(weight) }
}

function tellAdapters({ model, output }: Talk): void {
  const adapters = model.adapters.map(({ name, weight }) => ({ name, weight }))
  const text = adapters.map(({ name, weight }) =>
    weight === 0 ? `${name} (off)` : weight === 1 ? name : `${name}=${weight}`,
  )
  output.note(text.length === 0 ? 'No adapter is loaded.' : `Adapters: ${text.join(', ')}`)
  output.event<'chat'>({ event: 'adapter', adapters })
}

/** The message with a tool's result. The first word is the name of the tool if a tool has that name. */
function resultIn(command: string, argument: string, { chat }: Talk): ChatMessage {
  const [, first = '', rest = ''] = /^(\S+)\s*(.*)$/s.exec(argument) ?? []
  const isName = namesOf(chat.tools ?? []).includes(first)
  const content = isName ? rest : argument
  if (content === '') throw new UsageError(`/${command} needs a result, as in /${command} {"count": 16}.`)
  return { role: 'tool', ...(isName ? { name: first } : {}), content }
}

async function save({ chat, output, savedTo }: Talk, argument: string): Promise<void> {
  if (argument === '') throw new UsageError('/save needs a file, as in /save chat.jsonl.')
  if (chat.messages.length === 0) throw new UsageError('there is nothing to save yet.')
  const path = resolve(argument)
  if (existsSync(path) && !savedTo.has(path))
    throw new UsageError(`${argument} exists; name another file.`, { path })
  const system = chat.system === null ? [] : [{ role: 'system', content: chat.system }]
  const messages = [...system, ...chat.messages]
  const tools = chat.tools === undefined ? '' : `"tools": ${pythonJson(chat.tools)}, `
  await writeFileWhole(path, `{${tools}"messages": ${JSON.stringify(messages)}}\n`)
  savedTo.add(path)
  output.note(`Saved ${messages.length} messages to ${argument}.`)
  output.event<'chat'>({ event: 'save', path, messages: messages.length })
}
