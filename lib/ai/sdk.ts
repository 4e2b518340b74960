/** Types of the AI SDK: version 3 of its specification of language models, which versions 6 and 7 run. */
import type { LanguageModel } from 'ai'

export type LanguageModelV3 = Extract<LanguageModel, { specificationVersion: 'v3' }>
export type CallOptions = Parameters<LanguageModelV3['doGenerate']>[0]
export type Prompt = CallOptions['prompt']
export type ToolMessage = Extract<Prompt[number], { role: 'tool' }>
export type ToolOutput = Extract<ToolMessage['content'][number], { type: 'tool-result' }>['output']
export type Generated = Awaited<ReturnType<LanguageModelV3['doGenerate']>>
export type Content = Generated['content'][number]
export type Warning = Generated['warnings'][number]
export type Streamed = Awaited<ReturnType<LanguageModelV3['doStream']>>
export type StreamPart = Streamed['stream'] extends ReadableStream<infer Part> ? Part : never
export type Finish = Extract<StreamPart, { type: 'finish' }>
