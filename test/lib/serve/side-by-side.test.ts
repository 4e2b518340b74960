/** Many adapters on one base, asked at once. */
import { mkdtemp } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type OpenAI from 'openai'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { dora, loadModel, lora, type StrategyConfig } from '../../../lib/index.js'
import type { Model } from '../../../lib/model/model.js'
import type { TunedModel } from '../../../lib/serve/models.js'
import { type Asked, BASE, begun, ended, rowsOf, supervised, upload, withConfig } from './service.js'

const SYSTEM = `You are a helper who ${'counts numbers, and '.repeat(12)}is brief.`
const names = ['base', 'one', 'two', 'three', 'scaled']

describe('answers of several adapters', () => {
  let asked: Asked
  let model: Model
  const { signal } = new AbortController()

  async function tuned(folder: string, name: string, strategy: StrategyConfig): Promise<TunedModel> {
    const adapter = await model.attach(strategy, { seed: name.length })
    const rows = rowsOf(8)
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line.replaceAll('Number', name)))
    await adapter.train(rows, { maxSteps: 4, learningRate: 0.02, maxSeqLength: 64, signal })
    const path = join(folder, name)
    await adapter.save(path)
    await adapter.detach()
    return { name, base: 'base', path, created: 1 }
  }

  beforeAll(async () => {
    const folder = await mkdtemp(join(tmpdir(), 'lowrank-side-'))
    model = await loadModel(BASE)
    const adapters = [
      await tuned(folder, 'one', lora({ r: 4 })),
      await tuned(folder, 'two', lora({ r: 8, targetModules: 'all-linear' })),
      await tuned(folder, 'three', lora({ r: 2, useRslora: true })),
      await tuned(folder, 'scaled', dora({ r: 4 })),
    ]
    asked = await begun(join(folder, 'data'), { models: new Map([['base', model]]), tuned: adapters })
  })
  afterAll(() => asked.service.close())

  const ask = (model: string, number: number, system = SYSTEM) =>
    asked.client.chat.completions.create({
      ...{ model, seed: number, max_completion_tokens: 6 + (number % 9), temperature: number % 2 },
      messages: [
        { role: 'system', content: system },
        { role: 'user', content: `Say the number ${number}` },
      ],
    })
  const textOf = (answer: OpenAI.ChatCompletion) => answer.choices[0]?.message.content

  it('are the ones that each gives alone, asked at once', async () => {
    const alone: unknown[] = []
    const requests = Array.from({ length: 20 }, (_, i) => [names[i % 5] as string, i] as const)
    for (const [name, number] of requests) alone.push(textOf(await ask(name, number)))
    const together = await Promise.all(
      requests.map(async ([name, number]) => textOf(await ask(name, number))),
    )
    expect(together).toEqual(alone)
    expect(new Set(alone).size).toBeGreaterThan(10)
  })

  it('count the tokens of a prompt that were computed before, for the same adapter alone', async () => {
    const system = SYSTEM.replace('You are', 'Here is')
    const cached = async (name: string, number: number) =>
      (await ask(name, number, system)).usage?.prompt_tokens_details?.cached_tokens
    expect(await cached('one', 1)).toBeLessThan(32)
    expect(await cached('one', 2)).toBeGreaterThan(50)
    expect(await cached('two', 2)).toBeLessThan(32)
    expect(await cached('scaled', 2)).toBe(0)
  })

  it('are the same while a job trains', async () => {
    const training_file = await upload(asked.client, rowsOf(12))
    const before = await Promise.all(names.map(async (name) => textOf(await ask(name, 7))))
    const request = { model: 'base', training_file, method: supervised({ n_epochs: 4, batch_size: 2 }) }
    const { id } = await asked.client.fineTuning.jobs.create(withConfig(request))
    let during = 0
    for (;;) {
      const answers = await Promise.all(names.map(async (name) => textOf(await ask(name, 7))))
      expect(answers).toEqual(before)
      const { status } = await asked.client.fineTuning.jobs.retrieve(id)
      if (status === 'running') during++
      if (status === 'succeeded') break
      expect(['validating_files', 'queued', 'running']).toContain(status)
    }
    expect(during).toBeGreaterThan(0)
    const { fine_tuned_model: made } = await ended(asked.client, id)
    expect(textOf(await ask(made as string, 7))).not.toBe('')
    await asked.client.models.delete(made as string)
    expect(await Promise.all(names.map(async (name) => textOf(await ask(name, 7))))).toEqual(before)
  })
})
