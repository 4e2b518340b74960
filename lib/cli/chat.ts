/**
 * `lowrank chat`: a conversation on the terminal, or line by line from a pipe. Answers are streamed to stdout;
 * prompts and everything else go to stderr.
 */
import { createInterface, type Interface } from 'node:readline'
import type { Command } from 'commander'
import type { Chat, ChatAnswer } from '../model/chat.js'
import type { Model } from '../model/model.js'
import type { ChatMessage } from '../tokenizer/message.js'
import { commandHelp, runCommand, type Talk, weightsOf } from './chat-commands.js'
import { InterruptedError, isDefect, reportError, UsageError } from './errors.js'
import { examples, integerFlag } from './help.js'
import { Interruption } from './interrupt.js'
import { Output } from './output.js'
import { shown } from './progress.js'
import { AnswerShown, type SamplingFlags, samplingFlags, samplingOf } from './sampling.js'
import {
  chatTemplateOf,
  type FormatFlags,
  formatFlags,
  type NamedAdapter,
  readSubject,
  type SubjectOptions,
  subjectFlags,
  withSubject,
} from './subject.js'
import { toolsFlag, toolsOf } from './tools.js'

interface Options extends SubjectOptions, SamplingFlags, FormatFlags {
  system?: string
  tools?: string
  contextTokens?: number
  json?: boolean
}

export function configure(command: Command): void {
  subjectFlags(command)
  command.option('--system <text>', 'system prompt (default: the one that all training rows had)')
  formatFlags(command, 'turns')
  toolsFlag(command, false)
  command.option('--context-tokens <N>', 'maximum tokens of history and answer', integerFlag(2))
  samplingFlags(command, 512)
  examples(command, [
    'lowrank chat run.yaml',
    'lowrank chat --model models/SmolLM2-135M-Instruct --adapter out --system "Answer in one sentence."',
    'lowrank chat run.yaml --json < questions.txt',
  ])
  command.addHelpText('after', `\nIn the chat:\n${commandHelp()}`)
  command.action(async (path: string | undefined, options: Options) => {
    const output = new Output(options.json ?? false)
    chatTemplateOf(options)
    const tools = await toolsOf(options, false)
    const config = await readSubject(path, options, output)
    const interruption = new Interruption(output, 'Stopping.')
    const { signal } = interruption
    await withSubject(config, options, output, signal, async (model, adapters) => {
      // From here on, Ctrl-C stops an answer rather than the program.
      interruption.dispose()
      signal.throwIfAborted()
      await converse(model, adapters, { ...options, tools }, output)
    }).finally(() => interruption.dispose())
  })
}

async function converse(
  model: Model,
  adapters: readonly NamedAdapter[],
  options: Omit<Options, 'tools'> & { tools: readonly unknown[] | undefined },
  output: Output,
): Promise<void> {
  const { system, tools, contextTokens } = options
  const chatTemplate = chatTemplateOf(options)
  const chat = await shown(output, 'Reading the tokenizer', () =>
    model.chat({
      ...samplingOf(options),
      ...(system === undefined ? {} : { system }),
      ...(chatTemplate === undefined ? {} : { chatTemplate }),
      ...(contextTokens === undefined ? {} : { contextTokens }),
      ...(tools === undefined ? {} : { tools }),
    }),
  )
  if (chat.plain) output.note(`note: turns are passed as plain text: ${whyPlain(model, chatTemplate)}.`)
  else if (system === undefined && chat.system !== null)
    output.note('Using the system prompt of its training; /system shows it, /system off removes it.')
  const conversation = new Conversation(model, chat, output)
  if (conversation.terminal) output.note(greeting(model, adapters))
  await conversation.run()
}

function whyPlain({ promptFormat }: Model, chatTemplate: boolean | undefined): string {
  if (chatTemplate === false) return '--raw was given'
  return promptFormat?.form === 'raw'
    ? 'the model was trained on raw text (--chat uses the chat template anyway)'
    : 'the model has no chat template'
}

function greeting(model: Model, adapters: readonly NamedAdapter[]): string {
  const names = model.adapters.map(({ name }) => name)
  const acting = adapters.length === 0 ? 'without an adapter' : `with ${names.join(', ')}`
  return `${model.path}, ${acting}. Ctrl-C stops an answer, Ctrl-D quits, /help lists the commands.`
}

/** Reads lines from a terminal or a pipe and answers them. */
export class Conversation implements Talk {
  /** True if the input is a terminal. */
  readonly terminal: boolean
  readonly atStart: ReadonlyMap<string, number>
  readonly savedTo = new Set<string>()
  readonly held: ChatMessage[] = []
  readonly #lines: Interface
  /** Stops the current answer. */
  #answer: AbortController | undefined
  /** True if Ctrl-C was pressed and no line has been entered since. */
  #interrupted = false
  #left = false
  #failure: Error | undefined
  #dropped = 0

  constructor(
    readonly model: Model,
    readonly chat: Chat,
    readonly output: Output,
    input: NodeJS.ReadStream = process.stdin,
  ) {
    this.terminal = input.isTTY === true
    this.atStart = weightsOf(model)
    this.#lines = createInterface({
      input,
      ...(this.terminal ? { output: output.stderr, terminal: true } : {}),
      prompt: '> ',
      historySize: 200,
    })
  }

  /** Reads lines until the end of input, `/exit`, or Ctrl-C twice. */
  async run(): Promise<void> {
    const interrupt = () => this.#interrupt()
    // On a terminal the line reader receives Ctrl-C; elsewhere the process receives the signal.
    this.#lines.on('SIGINT', interrupt)
    process.on('SIGINT', interrupt)
    process.on('SIGTERM', interrupt)
    try {
      this.#prompt()
      for await (const line of this.#lines) {
        this.#interrupted = false
        await this.#take(line)
        if (this.#left) break
        this.#prompt()
      }
    } finally {
      this.#lines.close()
      process.off('SIGINT', interrupt)
      process.off('SIGTERM', interrupt)
    }
    if (this.#failure === undefined && !this.terminal && this.held.length > 0)
      throw new UsageError('results are held, and no /tool sent them; give the last result with /tool.')
    if (this.#failure) throw this.#failure
  }

  leave(): void {
    this.#left = true
    this.#lines.close()
  }

  #prompt(): void {
    if (this.terminal) this.#lines.prompt()
  }

  /** Ctrl-C stops the answer, and twice in a row ends the chat; without a terminal, the first signal ends it. */
  #interrupt(): void {
    const typed = this.terminal && this.#lines.line !== ''
    // As in a shell, the first Ctrl-C only clears typed text.
    const again = this.#interrupted && !typed
    if (typed) for (const name of ['e', 'u']) this.#lines.write(null, { ctrl: true, name })
    this.#interrupted = true
    this.#answer?.abort(new InterruptedError('the answer was stopped.'))
    if (!this.terminal) {
      this.#failure = new InterruptedError('stopped on request.')
      this.leave()
    } else if (again) this.leave()
    else if (this.#answer === undefined) {
      this.output.note('\nPress Ctrl-C again or Ctrl-D to quit.')
      this.#prompt()
    }
  }

  async #take(line: string): Promise<void> {
    const text = line.trim()
    if (text === '') return
    try {
      // Two slashes escape a text that begins with one.
      if (text.startsWith('/') && !text.startsWith('//')) return await runCommand(this, text)
      if (this.held.length > 0)
        throw new UsageError(
          'results are held for /tool; give the last result with it, or clear the history with /reset.',
        )
      await this.ask(text.replace(/^\/\//, '/'))
    } catch (error) {
      // A script must stop at an error; a person sees the message and can try again.
      if (!this.terminal || isDefect(error)) throw error
      reportError(error, this.output)
    }
  }

  async ask(text: string, messages?: readonly ChatMessage[]): Promise<void> {
    const { output } = this
    const controller = new AbortController()
    this.#answer = controller
    const answer = new AnswerShown(output)
    const { onPromptProgress } = answer
    try {
      const parts = this.chat.send(messages ?? text, {
        signal: controller.signal,
        onPromptProgress,
      })
      for (;;) {
        const { done, value } = await parts.next()
        if (done) {
          answer.end()
          if (!output.json) output.stdout.write('\n')
          this.#tell(text, value)
          return
        }
        answer.piece(value)
      }
    } catch (error) {
      answer.end()
      if (!output.json && answer.begun) output.stdout.write('\n')
      if (error !== controller.signal.reason) throw error
      if (this.terminal) output.note('(stopped)')
    } finally {
      answer.end()
      this.#answer = undefined
    }
  }

  #tell(text: string, answer: ChatAnswer): void {
    if (answer.droppedMessages > this.#dropped) {
      const limit = this.chat.contextTokens
      this.output.note(
        `note: the oldest ${answer.droppedMessages} messages no longer fit the context of ${limit} tokens and were dropped.`,
      )
    }
    this.#dropped = answer.droppedMessages
    if (answer.finishReason === 'length')
      this.output.note('note: the answer was cut off; --max-new-tokens allows longer ones.')
    this.output.event<'chat'>({
      event: 'answer',
      prompt: text,
      text: answer.text,
      tokens: answer.tokenIds.length,
      finish_reason: answer.finishReason,
      tokens_per_second: answer.tokensPerSecond,
      prompt_tokens: answer.promptTokens,
      reused_tokens: answer.reusedTokens,
      dropped_messages: answer.droppedMessages,
    })
  }
}
