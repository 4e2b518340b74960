/**
 * The golden steps by the public training loop: the batches as rows of a dataset, everything else as options of a run.
 */
import { cpSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect } from 'vitest'
import { ascending, shuffle } from '../../lib/data/permutation.js'
import {
  adamW,
  type DatasetConfig,
  dataset,
  type LoadOptions,
  loadModel,
  type Model,
  type TrainOptions,
} from '../../lib/index.js'
import type { Adapter } from '../../lib/model/adapter.js'
import type { NativeAdapter } from '../../lib/native/addon.js'
import { transposed } from '../../lib/peft/floats.js'
import { readStrategy } from '../../lib/strategies/index.js'
import type { AdapterDescription, StrategyConfig } from '../../lib/strategies/strategy.js'
import { scratchFolder } from '../lib/scratch.js'
import { flat } from '../lib/strategies/flat.js'
import { floats, goldenBatch, parity, readGolden, relativeError, type Tensors } from './engine.js'

/** Relative error that losses, norms and tensors may have after the steps. */
export const TOLERANCE = 1e-5

/** Of the order of the data and of the draws of ranks; `RANKS` of make_strategies.py are those of this seed. */
export const SEED = 41

/** Code shared by the cases of `lora/`, `full/`, and `strategies/`. */
export interface RunCase {
  name: string
  model: string
  loss: number
  optimizer: { lr: number; betas: [number, number]; eps: number; weight_decay: number; max_grad_norm: number }
  schedule: { type: 'linear' | 'cosine'; warmup_steps: number }
  losses: number[]
  grad_norms: number[]
}

export interface StrategyCase extends RunCase {
  /** As config files spell it. */
  strategy: { name: string; trained_ranks?: 'last' | 'active' }
  /** Ranks in use in each step, where a strategy draws them. */
  ranks?: number[]
  /** Loss of the first batch after the ten steps, where the weight itself has moved. */
  late_loss?: number
}

export const readCases = (folder: 'strategies'): StrategyCase[] =>
  JSON.parse(readFileSync(join(parity, folder, 'cases.json'), 'utf8'))

export const strategyOf = ({ name, strategy }: StrategyCase): StrategyConfig =>
  readStrategy(strategy, { name, spelling: 'snake' })

/** Ids of the golden batches are below this. */
const IDS = 256
/** A letter for every id, so that any row of ids is the tokens of a text. */
export const letter = (id: number) => String.fromCodePoint(0x4e00 + id)
const TEMPLATE =
  "{% for turn in messages %}{% if turn.role == 'assistant' %}{% generation %}{{ turn.content }}{% endgeneration %}" +
  '{% else %}{{ turn.content }}{% endif %}{% endfor %}'

/** A folder of test/parity/models with a tokenizer whose tokens are single letters. */
function withTokenizer(name: string): string {
  const folder = join(scratchFolder(), name)
  cpSync(join(parity, 'models', name), folder, { recursive: true })
  const vocab = Object.fromEntries(Array.from({ length: IDS }, (_, id) => [letter(id), id]))
  // SentencePiece's, whose tokens are the letters that they are written with.
  const decoders = [
    { type: 'Replace', pattern: { String: '\u2581' }, content: ' ' },
    { type: 'ByteFallback' },
    { type: 'Fuse' },
  ]
  const steps = { normalizer: null, pre_tokenizer: null, post_processor: null }
  const model = { type: 'BPE', vocab, merges: [], unk_token: null }
  writeFileSync(
    join(folder, 'tokenizer.json'),
    JSON.stringify({
      version: '1.0',
      added_tokens: [],
      ...steps,
      decoder: { type: 'Sequence', decoders },
      model,
    }),
  )
  // Rows end where the golden ones do, without a token that says so.
  const { eos_token_id: _, ...config } = JSON.parse(readFileSync(join(folder, 'config.json'), 'utf8'))
  writeFileSync(join(folder, 'config.json'), JSON.stringify(config))
  writeFileSync(join(folder, 'tokenizer_config.json'), JSON.stringify({ chat_template: TEMPLATE }))
  return folder
}

const loaded = new Map<string, Promise<Model>>()

/** The model of a case in fp32, loaded once for all cases that have it alike. */
export function modelOf(name: string, options: LoadOptions = {}): Promise<Model> {
  const key = JSON.stringify([name, options])
  const model = loaded.get(key) ?? loadModel(withTokenizer(name), { precision: 'fp32', ...options })
  loaded.set(key, model)
  return model
}

/** For `afterAll`. */
export async function disposeModels(): Promise<void> {
  for (const model of loaded.values()) await (await model).dispose()
}

/** Turns whose letters are the ids of a row: what is learned is the assistant's. */
function turns(ids: Int32Array, targets: Int32Array) {
  const messages: { role: string; content: string }[] = []
  for (const [i, id] of ids.entries()) {
    const role = i > 0 && targets[i - 1] !== -100 ? 'assistant' : 'user'
    const last = messages.at(-1)
    if (last?.role === role) last.content += letter(id)
    else messages.push({ role, content: letter(id) })
  }
  return { messages }
}

const datasets = new Map<number, Promise<DatasetConfig>>()

/** The golden batches of so many steps, in an order that the run's shuffling undoes. */
async function makeDataset(steps: number): Promise<DatasetConfig> {
  const golden = await readGolden('lora/train_batches.safetensors')
  const rows = Array.from({ length: steps }, (_, step) =>
    [0, 1].flatMap((micro) => {
      const { tokens, cuSeqlens, labels } = goldenBatch(golden, `step.${step % 10}.micro.${micro}.`)
      return [...cuSeqlens.slice(1)].map((end, i) =>
        turns(tokens.slice(cuSeqlens[i], end), labels.slice(cuSeqlens[i], end)),
      )
    }),
  ).flat()
  const shuffled: typeof rows = []
  for (const [place, row] of shuffle(ascending(rows.length), SEED, 0).entries())
    shuffled[row] = rows[place] as (typeof rows)[number]
  return dataset(shuffled, { unended: 'allow' })
}

export function goldenRows(steps: number): Promise<DatasetConfig> {
  const made = datasets.get(steps) ?? makeDataset(steps)
  datasets.set(steps, made)
  return made
}

/** The options of a case, as a user would write them. */
export function optionsOf({ optimizer, schedule }: Pick<RunCase, 'optimizer' | 'schedule'>) {
  const { lr, betas, eps, weight_decay, max_grad_norm } = optimizer
  return {
    optimizer: adamW({ betas, eps }),
    learningRate: lr,
    lrSchedulerType: schedule.type,
    warmupSteps: schedule.warmup_steps,
    weightDecay: weight_decay,
    maxGradNorm: max_grad_norm,
    numTrainEpochs: 1,
    perDeviceTrainBatchSize: 3,
    gradientAccumulationSteps: 2,
    maxSeqLength: 32,
    packing: false,
    seed: SEED,
  } satisfies Partial<TrainOptions>
}

/** A factor of an adapter and its name in the golden file, whose tensors are `init.<tensor>` and `final.<tensor>`. */
export interface Saved {
  name: string
  tensor: string
}

/** Gives an adapter the starting values of a case. */
export function start(
  adapter: NativeAdapter,
  { spec, factors }: AdapterDescription,
  golden: Tensors,
): (Saved & { trained: boolean })[] {
  const saved = factors.flatMap(({ name, trained, tensor }) =>
    tensor ? [{ name, trained, tensor: tensor.name }] : [],
  )
  turn(factors, golden)
  for (const { name, tensor } of saved) adapter.write(name, 'value', floats(golden, `init.${tensor}`))
  for (const { name, initializer } of factors)
    if (initializer.kind === 'values') adapter.write(name, 'value', initializer.make())
  for (const { a, b, snapshotA, snapshotB, subtracts } of flat(spec)) {
    if (!subtracts) continue
    adapter.write(snapshotA as string, 'value', adapter.read(a, 'value'))
    adapter.write(snapshotB as string, 'value', adapter.read(b, 'value'))
    adapter.fill('start_ratio', { kind: 'constant', value: 1 })
  }
  return saved
}

/** Puts what files hold as a transpose the way round that factors have it. */
function turn(factors: AdapterDescription['factors'], golden: Tensors): void {
  for (const { rows, cols, tensor } of factors)
    for (const key of tensor?.transposed
      ? ['init', 'grad', 'final'].map((kind) => `${kind}.${tensor.name}`)
      : [])
      golden.set(key, transposed(floats(golden, key), cols, rows))
}

/** The adapter of a case on its model, to be trained by a run. */
export async function attached(c: StrategyCase) {
  const golden = await readGolden(`strategies/${c.name}.safetensors`)
  const adapter = await (await modelOf(c.model)).attach(strategyOf(c))
  const saved = start(adapter.state.native, adapter.state.description, golden)
  return { golden, adapter, saved }
}

/** Trains the adapter as the case says, or with some options changed. */
export async function train(
  adapter: Adapter,
  c: RunCase,
  changed: Partial<TrainOptions> = {},
): Promise<{ loss: number; norm: number }[]> {
  const run = adapter.train(await goldenRows(c.losses.length), { ...optionsOf(c), ...changed })
  const steps: { loss: number; norm: number }[] = []
  for await (const { loss, gradNorm } of run) steps.push({ loss, norm: gradNorm })
  return steps
}

export function expectSteps(steps: { loss: number; norm: number }[], c: RunCase): void {
  expect(steps).toHaveLength(c.losses.length)
  for (const [s, { loss, norm }] of steps.entries()) {
    expect(Math.abs(loss / (c.losses[s] as number) - 1), `loss of step ${s}`).toBeLessThan(TOLERANCE)
    expect(Math.abs(norm / (c.grad_norms[s] as number) - 1), `norm of step ${s}`).toBeLessThan(TOLERANCE)
  }
}

/** By tensor, how far the adapter is from where the peer's ended. */
export function errorsOf(adapter: Adapter, saved: readonly Saved[], golden: Tensors): Map<string, number> {
  return new Map(
    saved.map(({ name, tensor }) => {
      const [ours, theirs] = [adapter.state.native.read(name, 'value'), floats(golden, `final.${tensor}`)]
      // Ranks that are gone are exactly so.
      if (theirs.every((value) => value === 0)) return [tensor, ours.every((value) => value === 0) ? 0 : 1]
      return [tensor, relativeError(ours, theirs)]
    }),
  )
}

export function expectTensors(adapter: Adapter, saved: readonly Saved[], golden: Tensors): void {
  for (const [tensor, error] of errorsOf(adapter, saved, golden))
    expect(error, tensor).toBeLessThan(TOLERANCE)
}
