/** A service on the demo's model, asked by OpenAI's client. */
import OpenAI, { toFile } from 'openai'
import { loadModel } from '../../../lib/model/load.js'
import { type LogEntry, type ServeOptions, type Service, serve, textOf } from '../../../lib/serve/index.js'

export const BASE = 'demo/base'

/** Small steps, so that a job takes seconds. */
export const SMALL = { strategy: { name: 'lora', r: 4 }, max_seq_length: 64 }

export interface Asked {
  service: Service
  client: OpenAI
  /** Errors of the server. */
  reports: string[]
  entries: LogEntry[]
}

export async function begun(data: string, options: Partial<ServeOptions> = {}): Promise<Asked> {
  const reports: string[] = []
  const entries: LogEntry[] = []
  const model = await loadModel(BASE)
  const service = await serve({
    models: new Map([['base', model]]),
    data,
    log: (entry) => {
      entries.push(entry)
      reports.push(...[textOf(entry) ?? []].flat())
    },
    ...options,
  })
  const client = new OpenAI({ baseURL: service.url, apiKey: service.token, maxRetries: 0 })
  return { service, client, reports, entries }
}

/** Rows of a chat that counts. */
export function rowsOf(count: number): string {
  const row = (i: number) => ({
    messages: [
      { role: 'user', content: `Say the number ${i}` },
      { role: 'assistant', content: `Number ${i}.` },
    ],
  })
  return Array.from({ length: count }, (_, i) => `${JSON.stringify(row(i))}\n`).join('')
}

export async function upload(client: OpenAI, text: string, name = 'train.jsonl'): Promise<string> {
  const { id } = await client.files.create({
    file: await toFile(Buffer.from(text), name),
    purpose: 'fine-tune',
  })
  return id
}

/** Waits until a job has ended, as clients do. */
export async function ended(client: OpenAI, id: string): Promise<OpenAI.FineTuning.FineTuningJob> {
  for (;;) {
    const job = await client.fineTuning.jobs.retrieve(id)
    if (['succeeded', 'failed', 'cancelled'].includes(job.status)) return job
    await new Promise((resolve) => setTimeout(resolve, 50))
  }
}

/** Options of a job that the client's types do not know. */
export function withConfig<T extends object>(request: T, config: object = SMALL): T {
  return { ...request, lowrank: config }
}

/** Prompts without answers, each with the letter that its answer should have. */
export function promptsOf(count: number, letter = 'e'): string {
  const row = (i: number) => ({ messages: [{ role: 'user', content: `Say the number ${i}` }], letter })
  return Array.from({ length: count }, (_, i) => `${JSON.stringify(row(i))}\n`).join('')
}

/** The method that rewards answers with the letter of their row. */
export function reinforcement(
  hyperparameters: OpenAI.FineTuning.ReinforcementHyperparameters,
  grader: object = {
    ...{ type: 'string_check', name: 'letter', operation: 'like' },
    ...{ input: '{{sample.output_text}}', reference: '{{item.letter}}' },
  },
): OpenAI.FineTuning.JobCreateParams.Method {
  const reinforcement = { grader, hyperparameters } as OpenAI.FineTuning.ReinforcementMethod
  return { type: 'reinforcement', reinforcement }
}

export function supervised(numbers: {
  n_epochs?: number
  batch_size?: number
  learning_rate_multiplier?: number
}): OpenAI.FineTuning.JobCreateParams.Method {
  return { type: 'supervised', supervised: { hyperparameters: numbers } }
}
