/** `lowrank generate`: answers prompts one after another, streaming the text. */
import type { Command } from 'commander'
import type { Model } from '../model/model.js'
import type { Generation } from '../train/answers/generate.js'
import { UsageError } from './errors.js'
import { examples } from './help.js'
import { Interruption } from './interrupt.js'
import { Output } from './output.js'
import { shown } from './progress.js'
import { AnswerShown, type SamplingFlags, samplingFlags, samplingOf } from './sampling.js'
import {
  chatTemplateOf,
  type FormatFlags,
  formatFlags,
  readSubject,
  type SubjectOptions,
  subjectFlags,
  withSubject,
} from './subject.js'
import { toolsFlag, toolsOf } from './tools.js'

interface Options extends SubjectOptions, SamplingFlags, FormatFlags {
  prompt?: string[]
  system?: string
  tools?: string
  json?: boolean
}

export function configure(command: Command): void {
  subjectFlags(command)
  command.option('--prompt <text...>', 'one or more prompts')
  command.option('--system <text>', 'system prompt (default: the one that all training rows had)')
  formatFlags(command, 'prompts')
  toolsFlag(command, true)
  samplingFlags(command, 128)
  examples(command, [
    'lowrank generate --model models/SmolLM2-135M-Instruct --prompt "Why is the sky blue?"',
    'lowrank generate run.yaml --temperature 0.7 --top-p 0.9 --prompt "Hello" "Good morning"',
  ])
  command.action(async (path: string | undefined, options: Options) => {
    const output = new Output(options.json ?? false)
    const { prompt: prompts = [] } = options
    if (prompts.length === 0) throw new UsageError('pass at least one --prompt.')
    const asked = chatTemplateOf(options)
    const tools = await toolsOf(options, true)
    const config = await readSubject(path, options, output)
    const interruption = new Interruption(output, 'Stopping.')
    const { signal } = interruption
    try {
      await withSubject(config, options, output, signal, async (model) => {
        const { system } = options
        const chatTemplate =
          asked ??
          (model.promptFormat === null
            ? await shown(output, 'Reading the tokenizer', () => model.hasChatTemplate())
            : undefined)
        const how = {
          ...samplingOf(options),
          ...(system === undefined ? {} : { system }),
          ...(tools === undefined ? {} : { tools }),
          chatTemplate,
          signal,
        }
        for (const [i, prompt] of prompts.entries()) {
          if (!output.json && prompts.length > 1) announce(prompt, i, output)
          await answer(model, prompt, how, output)
        }
      })
    } finally {
      interruption.dispose()
    }
  })
}

function announce(prompt: string, index: number, output: Output): void {
  const gap = index === 0 ? '' : '\n'
  output.stdout.write(`${gap}${output.styled('bold', `> ${prompt}`)}\n`)
}

async function answer(
  model: Model,
  prompt: string,
  options: Parameters<Model['stream']>[1],
  output: Output,
): Promise<void> {
  const { text, tokenIds, finishReason, tokensPerSecond } = await stream(model, prompt, options, output)
  output.event<'generate'>({
    prompt,
    text,
    tokens: tokenIds.length,
    finish_reason: finishReason,
    tokens_per_second: tokensPerSecond,
  })
}

async function stream(
  model: Model,
  prompt: string,
  options: Parameters<Model['stream']>[1],
  output: Output,
): Promise<Generation> {
  const answer = new AnswerShown(output)
  const { onPromptProgress } = answer
  try {
    const parts = model.stream(prompt, { ...options, onPromptProgress })
    for (;;) {
      const { done, value } = await parts.next()
      if (done) {
        answer.end()
        if (!output.json) output.stdout.write('\n')
        return value
      }
      answer.piece(value)
    }
  } finally {
    answer.end()
  }
}
