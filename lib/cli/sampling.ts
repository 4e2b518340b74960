/** What verbs that write text share: the flags of how tokens are drawn, and how far a prompt has gone in. */
import type { Command } from 'commander'
import type { PromptProgress } from '../train/decoder.js'
import { integerFlag, numberFlag } from './help.js'
import type { StatusLine } from './progress.js'

/** Flags of how tokens are drawn. */
export interface SamplingFlags {
  maxNewTokens?: number
  temperature?: number
  topK?: number
  topP?: number
  seed?: number
}

/** @param maxNewTokens the default */
export function samplingFlags(command: Command, maxNewTokens: number): void {
  command.option(
    '--max-new-tokens <N>',
    `tokens after which an answer ends (default ${maxNewTokens})`,
    integerFlag(1),
  )
  command.option('--temperature <T>', '0 (default) takes the likeliest token', numberFlag(0, 100))
  command.option('--top-k <K>', 'draw from the K likeliest tokens', integerFlag(0))
  command.option('--top-p <P>', 'draw from the likeliest tokens that make up this share', numberFlag(0, 1))
  command.option('--seed <S>', 'the same seed draws the same tokens (default 0)', integerFlag(0))
}

/** The flags that were given, as options of a generation. */
export function samplingOf({ maxNewTokens, temperature, topK, topP, seed }: SamplingFlags) {
  const given = Object.entries({ maxNewTokens, temperature, topK, topP, seed })
  return Object.fromEntries(given.filter(([, value]) => value !== undefined))
}

/** Shows how far a prompt is; the line goes when the first text comes. */
export function promptProgress(line: StatusLine): (progress: PromptProgress) => void {
  return ({ tokens, totalTokens }) => {
    // What is there within one call says nothing.
    if (tokens > 0 && tokens < totalTokens) line.update(`${tokens} of ${totalTokens} tokens`)
  }
}
