/** Jobs of the method `reinforcement`, by OpenAI's client. */
import { join } from 'node:path'
import type OpenAI from 'openai'
import { APIError } from 'openai'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { planModel } from '../../../lib/planning/plan.js'
import { lora } from '../../../lib/strategies/lora.js'
import { scratchFolder } from '../scratch.js'
import {
  type Asked,
  BASE,
  begun,
  ended,
  promptsOf,
  reinforcement,
  rowsOf,
  upload,
  withConfig,
} from './service.js'

const SHORT = { strategy: { name: 'lora', r: 4 }, max_seq_length: 48, max_completion_length: 8 }

let asked: Asked
let client: OpenAI
beforeAll(async () => {
  asked = await begun(join(scratchFolder(), 'data'))
  client = asked.client
})
afterAll(() => asked.service.close())

async function eventsOf(id: string): Promise<OpenAI.FineTuning.FineTuningJobEvent[]> {
  const events: OpenAI.FineTuning.FineTuningJobEvent[] = []
  for await (const event of client.fineTuning.jobs.listEvents(id)) events.push(event)
  return events.reverse()
}

type Metrics = Record<string, number>
const numbersOf = (events: readonly OpenAI.FineTuning.FineTuningJobEvent[], key: string) =>
  events.flatMap(({ data }) =>
    data !== null && key in (data as Metrics) ? [(data as Metrics)[key] as number] : [],
  )
const mean = (numbers: readonly number[]) => numbers.reduce((sum, one) => sum + one, 0) / numbers.length

describe('a reinforcement job', () => {
  test('raises the reward that its grader gives', async () => {
    const training_file = await upload(client, promptsOf(12))
    const validation_file = await upload(client, promptsOf(3))
    const method = reinforcement({
      ...{ n_epochs: 6, batch_size: 4, learning_rate_multiplier: 20, eval_interval: 6 },
      reasoning_effort: 'low',
    })
    const request = { model: 'base', training_file, validation_file, seed: 1, method }
    const created = await client.fineTuning.jobs.create(withConfig(request, SHORT))
    const { reinforcement: asGiven } = created.method ?? {}
    expect(asGiven).toMatchObject({ grader: method.reinforcement?.grader, hyperparameters: { n_epochs: 6 } })
    const job = await ended(client, created.id)
    expect(job).toMatchObject({ status: 'succeeded', error: null, hyperparameters: null })
    expect(job.method).toEqual({
      type: 'reinforcement',
      reinforcement: {
        grader: method.reinforcement?.grader,
        hyperparameters: {
          ...{ n_epochs: 6, batch_size: 4, learning_rate_multiplier: 20, eval_interval: 6 },
          ...{ compute_multiplier: 1, eval_samples: 1, reasoning_effort: 'low' },
        },
      },
    })
    const plan = await planModel(BASE, {
      ...{ strategy: lora({ r: 4 }), task: 'grpo', perDeviceTrainBatchSize: 4, packing: false },
      ...{ maxSeqLength: 48, metricForBestModel: 'reward', evaluates: true },
    })
    expect((job as object as { lowrank: object }).lowrank).toMatchObject({ planned_bytes: plan.peakBytes })

    const events = await eventsOf(job.id)
    const rewards = Array.from({ length: 18 }, (_, i) => stepReward(events, i + 1))
    expect(mean(rewards.slice(0, 3))).toBeLessThan(0.8)
    expect(mean(rewards.slice(-3))).toBeGreaterThan(0.9)
    expect(numbersOf(events, 'valid_reward_mean')).toHaveLength(3)
    expect(numbersOf(events, 'valid_reward_mean').at(-1)).toBe(1)
    expect(numbersOf(events, 'valid_loss')).toEqual([])
    const messages = events.map(({ message }) => message)
    expect(messages).toContain('reasoning_effort is low, which has no effect on this server')
    expect(
      messages.filter((text) => /^Step \d+\/18: training loss=.*, training reward mean=[\d.]+$/.test(text)),
    ).toHaveLength(18)
    expect(messages).toContain('Step 18/18: validation reward mean=1')

    const csv = await (await client.files.content(job.result_files[0] as string)).text()
    const [header, ...lines] = csv.trimEnd().split('\n')
    expect(header).toBe(
      'step,train_loss,train_accuracy,valid_loss,valid_mean_token_accuracy,train_reward_mean,valid_reward_mean',
    )
    const cells = lines.map((line) => line.split(','))
    expect(cells.map(([step]) => Number(step))).toEqual(Array.from({ length: 18 }, (_, i) => i + 1))
    expect(cells.map((row) => Number(row[5]).toFixed(4))).toEqual(rewards.map((one) => one.toFixed(4)))
    expect(cells.filter((row) => row[6] !== '').map(([step]) => step)).toEqual(['6', '12', '18'])
    expect(cells.every((row) => row[2] === '' && row[3] === '' && row[4] === '')).toBe(true)

    const { data: checkpoints } = await client.fineTuning.jobs.checkpoints.list(job.id)
    expect(checkpoints.map(({ step_number }) => step_number)).toEqual([18, 15, 12, 9, 6, 3])
    expect(checkpoints[0]?.metrics).toMatchObject({
      train_reward_mean: expect.any(Number),
      valid_reward_mean: 1,
    })
    const { choices } = await client.chat.completions.create({
      ...{ model: job.fine_tuned_model as string, temperature: 0, max_completion_tokens: 8 },
      messages: [{ role: 'user', content: 'Say the number 40' }],
    })
    expect(choices[0]?.message.content).toContain('e')
    expect(asked.reports).toEqual([])
  })

  test('ends before its first step where a row lacks what the grader looks at', async () => {
    const rows = `${promptsOf(11)}${JSON.stringify({ messages: [{ role: 'user', content: 'Say 1' }], lettre: 'e' })}\n`
    const training_file = await upload(client, rows)
    const method = reinforcement({ n_epochs: 1 })
    const { id } = await client.fineTuning.jobs.create(
      withConfig({ model: 'base', training_file, method }, SHORT),
    )
    const job = await ended(client, id)
    expect(job).toMatchObject({ status: 'failed', error: { code: 'invalid_training_file' } })
    expect(job.error?.message).toBe(
      `${training_file}, line 12: there is no item.letter, which the grader looks at; add it to the row`,
    )
    expect((await eventsOf(id)).at(-1)).toMatchObject({ level: 'error', message: job.error?.message })
  })

  test('is refused by the name of what it cannot have', async () => {
    const training_file = await upload(client, promptsOf(10))
    const refused = async (method: object) => {
      const error = await client.fineTuning.jobs
        .create({ model: 'base', training_file, method: method as OpenAI.FineTuning.JobCreateParams.Method })
        .then(
          () => undefined,
          (caught: unknown) => caught,
        )
      expect(error).toBeInstanceOf(APIError)
      return error as APIError
    }
    const grader = { type: 'python', name: 'p', source: 'def grade(sample, item): return 1.0' }
    expect(await refused(reinforcement({}, grader))).toMatchObject({
      ...{ status: 400, code: 'unsupported_parameter', param: 'method.reinforcement.grader.type' },
    })
    // Prompts without answers are nothing for the other methods.
    const { id } = await client.fineTuning.jobs.create({ model: 'base', training_file })
    expect((await ended(client, id)).error?.message).toContain(
      'there is no assistant message; task: grpo takes such a row as a prompt',
    )
  })

  test('takes chats with answers as prompts too', async () => {
    const training_file = await upload(client, rowsOf(10))
    const method = reinforcement(
      { n_epochs: 1, batch_size: 4, compute_multiplier: 0.25 },
      {
        ...{ type: 'multi', name: 'joined', calculate_output: '0.5 * long + like' },
        graders: {
          long: { type: 'string_check', input: '{{sample.output_text}}', reference: '', operation: 'ne' },
          like: {
            ...{ type: 'text_similarity', evaluation_metric: 'fuzzy_match' },
            ...{ input: '{{sample.output_text}}', reference: 'Number' },
          },
        },
      },
    )
    const { id } = await client.fineTuning.jobs.create(
      withConfig({ model: 'base', training_file, method }, SHORT),
    )
    expect(await ended(client, id)).toMatchObject({ status: 'succeeded', error: null })
    expect(numbersOf(await eventsOf(id), 'train_reward_mean')).toHaveLength(3)
    expect(asked.reports).toEqual([])
  })
})

/** The reward that the events tell of a step. */
function stepReward(events: readonly OpenAI.FineTuning.FineTuningJobEvent[], step: number): number {
  const metrics = events.map(({ data }) => data as Metrics | null)
  return metrics.find((data) => data?.step === step)?.train_reward_mean ?? Number.NaN
}

test('graders are tried and checked before a job has them', async () => {
  const grader = {
    ...{ type: 'text_similarity' as const, name: 'close', evaluation_metric: 'fuzzy_match' as const },
    ...{ input: '{{sample.output_text}}', reference: '{{item.answer}}' },
  }
  const { graders } = client.fineTuning.alpha
  expect(await graders.validate({ grader })).toEqual({ grader })
  const run = await graders.run({ grader, model_sample: 'abxx', item: { answer: 'abcd' } })
  expect(run).toMatchObject({
    reward: 0.5,
    sub_rewards: {},
    metadata: { name: 'close', scores: { close: 0.5 } },
  })
  await expect(
    graders.validate({ grader: { ...grader, evaluation_metric: 'cosine' } }),
  ).rejects.toMatchObject({
    ...{ status: 400, param: 'grader.evaluation_metric', code: 'unsupported_parameter' },
  })
})
