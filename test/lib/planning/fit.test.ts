import { readFileSync } from 'node:fs'
import { expect, test } from 'vitest'
import { snakeKey } from '../../../lib/core/schema.js'
import { memoryOptions } from '../../../lib/options/memory-shape.js'
import { adamW, lion, pagedAdamW, pagedAdamW8bit } from '../../../lib/options/optimizers.js'
import { type FitChoice, fitRun } from '../../../lib/planning/fit.js'
import { openPlanner, type PlanModelOptions } from '../../../lib/planning/plan.js'
import { readStrategy } from '../../../lib/strategies/index.js'
import { sweepTest } from '../../sweep.js'
import { scratchFile } from '../scratch.js'

type PlanChanges = Pick<PlanModelOptions, 'optimizer' | 'pagedWeights'>

const MEBIBYTE = 2 ** 20

/** Of 8 million numbers, so that state and base are many times what paging leaves of them. */
const model = scratchFile(
  'config.json',
  JSON.stringify({
    model_type: 'llama',
    vocab_size: 512,
    hidden_size: 256,
    intermediate_size: 512,
    num_hidden_layers: 12,
    num_attention_heads: 4,
    num_key_value_heads: 4,
    max_position_embeddings: 512,
    torch_dtype: 'bfloat16',
  }),
)

const adapter = { r: 64, target_modules: 'all-linear' }

/** A run of one sequence a step. */
function run(name = 'lora', options: object = adapter) {
  return {
    strategy: readStrategy({ name, ...options }, { name: 'test', spelling: 'snake' }),
    precision: 'fp32',
    threads: 1,
    maxSeqLength: 32,
    perDeviceTrainBatchSize: 1,
    gradientAccumulationSteps: 1,
  } satisfies PlanModelOptions & { gradientAccumulationSteps: number }
}

/** The peak with checkpointing and some options changed. */
async function peakOf({ gradientAccumulationSteps: _, ...given }: ReturnType<typeof run>, changes: object) {
  const { plan } = await openPlanner(model, given)
  return plan({ ...changes, gradientCheckpointing: true }).peakBytes
}

const heldIn = ({ activationOffloading, optimizer, pagedWeights }: FitChoice) =>
  `${optimizer?.type ?? 'as asked'}${activationOffloading ? ', offloaded' : ''}${pagedWeights ? ', paged base' : ''}`

/** State and base of the settings that fit, each once. */
async function ways(given: ReturnType<typeof run>, budget: number) {
  const { choices } = await fitRun(model, given, budget)
  return [...new Set(choices.map(heldIn))]
}

const paged = { optimizer: pagedAdamW({ resident: '1MiB' }) }
const pagedBase = { pagedWeights: true }

test.each([
  ['as asked', {}],
  ['as asked, offloaded', { activationOffloading: true }],
  ['as asked, offloaded, paged base', { activationOffloading: true, ...pagedBase }],
  ['paged_adamw', paged],
  ['as asked, paged base', pagedBase],
  ['adamw_8bit', { optimizer: 'adamw_8bit' }],
  ['paged_adamw, paged base', { ...paged, ...pagedBase }],
  ['adamw_8bit, paged base', { optimizer: 'adamw_8bit', ...pagedBase }],
])('a budget of what %s takes is met by it, and what is chosen plans to no more', async (way, changes) => {
  const given = { ...run(), evaluates: way.includes('base') }
  const budget = await peakOf(given, changes)
  const { choices, least } = await fitRun(model, given, budget)
  expect(least).toBeUndefined()
  expect(choices.map(heldIn)).toContain(way)
  const { gradientAccumulationSteps: _, ...options } = given
  const { plan } = await openPlanner(model, options)
  for (const { memory, optimizer, pagedWeights, stateBytesMoved, baseBytesRead, ...shape } of choices) {
    const { gradientCheckpointing, activationOffloading = false, activationBytesMoved } = shape
    const keys = { ...(optimizer && { optimizer }), ...(pagedWeights && { pagedWeights }) }
    const again = plan({ gradientCheckpointing, activationOffloading, ...keys })
    expect(again.rows).toEqual(memory.rows)
    expect(again.peakBytes).toBeLessThanOrEqual(budget)
    expect(activationBytesMoved > 0).toBe(activationOffloading)
    expect(stateBytesMoved > 0).toBe(optimizer?.type.startsWith('paged') ?? false)
    expect(baseBytesRead > 0).toBe(pagedWeights !== undefined)
  }
})

test('activations go to the disk before state, state before the base, the base before state has 8 bits, and none of it without need', async () => {
  const given = run()
  expect(await ways(given, 2 ** 40)).toEqual(['as asked'])
  const [asked, both] = await Promise.all([peakOf(given, {}), peakOf(given, { ...paged, ...pagedBase })])
  const short = await fitRun(model, given, asked - 1)
  expect(short.choices.map(heldIn)).toEqual([
    'as asked, offloaded',
    ...['paged_adamw', 'paged_adamw'],
    ...['as asked, paged base', 'as asked, paged base'],
    ...['adamw_8bit', 'adamw_8bit'],
  ])
  expect(await ways(given, both)).toEqual(['paged_adamw, paged base'])
  const none = await fitRun(model, given, both / 2)
  expect(none.choices).toEqual([])
  expect(none.least?.memory.peakBytes).toBeLessThanOrEqual(both)
})

test('gradients are used up in the backward pass before anything is paged, where they may be', async () => {
  const given = { ...run('full', {}), maxGradNorm: 0 }
  const budget = await peakOf(run('full', {}), { optimizerInBackward: true })
  const inBackward = async (changes: object) => {
    const { choices } = await fitRun(model, { ...given, ...changes }, budget)
    return choices.map((choice) => [heldIn(choice), choice.optimizerInBackward ?? false])
  }
  expect((await inBackward({}))[0]).toEqual(['as asked', true])
  expect(await inBackward({ maxGradNorm: 1 })).not.toContainEqual(['as asked', false])
  // Accumulation over micro-batches stays unchanged.
  const { choices } = await fitRun(model, { ...given, gradientAccumulationSteps: 2 }, budget)
  for (const choice of choices)
    expect(choice.optimizerInBackward ?? false).toBe(choice.perDeviceTrainBatchSize === 2)
  const asked = await fitRun(
    model,
    { ...given, optimizerInBackward: true, gradientAccumulationSteps: 2 },
    2 ** 40,
  )
  expect(asked.choices.map((choice) => choice.gradientAccumulationSteps)).toEqual([1, 1])
})

test('what is asked of checkpointing is asked for with it', async () => {
  const kept = await fitRun(model, { ...run(), keepAttention: true }, 2 ** 40)
  expect(kept.choices.map((choice) => choice.gradientCheckpointing)).toEqual([true])
  const offloaded = await fitRun(model, { ...run(), activationOffloading: true }, 2 ** 40)
  expect(offloaded.choices.map((choice) => choice.gradientCheckpointing)).toEqual([true])
})

test('what is paged takes what the budget leaves', async () => {
  const given = run()
  const budget = await peakOf(given, { optimizer: pagedAdamW({ resident: '9MiB' }) })
  const { choices } = await fitRun(model, given, budget)
  const state = choices.find((choice) => heldIn(choice) === 'paged_adamw' && choice.gradientCheckpointing)
  if (state === undefined) throw new Error('state is not paged')
  const { memory, stateBytesMoved } = state
  expect(memory.peakBytes).toBeGreaterThan(budget - 3 * MEBIBYTE)
  // Every number of both moments that is not held is read and written.
  const beyond = 8 * memory.trainableParameters - memory.bytes('optimizer')
  expect(stateBytesMoved).toBeGreaterThanOrEqual(2 * beyond)
  expect(stateBytesMoved).toBeLessThan(2 * (beyond + 2 * MEBIBYTE))
})

sweepTest('what was asked for otherwise stays, and so does what cannot be otherwise', async () => {
  const tight = 60 * MEBIBYTE
  const possible = async (given: ReturnType<typeof run>, changes: PlanChanges = {}) => {
    const found: string[] = []
    for (let budget = tight; budget > MEBIBYTE; budget -= 4 * MEBIBYTE)
      found.push(...(await ways({ ...given, ...changes }, budget)))
    return [...new Set(found)].sort()
  }
  const otherwise = ['as asked', 'as asked, offloaded', 'as asked, paged base']
  expect(await possible(run(), { optimizer: lion() })).toEqual(otherwise)
  expect(await possible(run(), { optimizer: pagedAdamW8bit(), pagedWeights: '12MiB' })).toEqual(['as asked'])
  expect(await possible(run('dylora'))).not.toContainEqual(expect.stringContaining('8bit'))
  const clients = { clients: { column: 'user' }, rounds: 4, cohort: 2, target_epsilon: 3 }
  const users = run('dp-dylora', { adapter: { name: 'lora', r: 16 }, ...clients })
  expect(await possible(users)).not.toContainEqual(expect.stringContaining('paged_adamw'))
  const { choices } = await fitRun(model, run('full', {}), 90 * MEBIBYTE)
  expect([...new Set(choices.map(heldIn))]).toEqual(['paged_adamw'])
})

test('settings of AdamW stay where its moments are held otherwise', async () => {
  const optimizer = adamW({ betas: [0.9, 0.95], weightDecay: 0.1 })
  const given = { ...run(), optimizer }
  const { choices } = await fitRun(model, given, (await peakOf(run(), {})) - 1)
  for (const choice of choices)
    if (choice.optimizer)
      expect(choice.optimizer).toMatchObject({ betas: [0.9, 0.95], eps: 1e-8, weightDecay: 0.1 })
})

test('the options that may be changed are those that the list of memory options says, in what is printed too', () => {
  const { properties } = JSON.parse(readFileSync('schemas/plan.schema.json', 'utf8')).anyOf[0]
  const printed = Object.keys(properties.fit.properties.choices.items.properties)
  const changed = memoryOptions.filter(([, { fits }]) => fits).map(([key]) => snakeKey(key))
  expect(changed).toEqual(['optimizer', 'optimizer_in_backward', 'activation_offloading', 'paged_weights'])
  expect(printed).toEqual(expect.arrayContaining(changed))
})

test('a base larger than a card passes through it, in as much of it as there is', async () => {
  const card = { sm: 89, multiprocessors: 128, sharedBytes: 99 * 1024 }
  const given = { ...run('lora', { r: 2 }), card }
  const { gradientAccumulationSteps: _, ...planned } = given
  const { plan } = await openPlanner(model, planned)
  const [least, all] = [true, false].map((pagedWeights) =>
    plan({ pagedWeights, gradientCheckpointing: true }),
  )
  const budget = ((least?.peakBytes as number) + (all?.peakBytes as number)) / 2
  const { choices } = await fitRun(model, given, budget)
  const streamed = choices.find(({ pagedWeights }) => pagedWeights) as FitChoice
  expect(choices.every(({ memory }) => memory.peakBytes <= budget)).toBe(true)
  expect(streamed.memory.bytes('paged_weights')).toBeGreaterThan(least?.bytes('paged_weights') as number)
  expect(streamed.memory.pinnedBytes).toBe(least?.pinnedBytes)
  expect(streamed.baseBytesRead).toBeLessThan(least?.pagedReadBytes as number)
  expect(streamed.baseBytesRead).toBeGreaterThan(0)
})
