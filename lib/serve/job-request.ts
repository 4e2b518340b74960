/** Requests for fine-tuning jobs, and the configs of their runs. */
import { join } from 'node:path'
import * as z from 'zod'
import { ownRate } from '../options/rates.js'
import { rulesOf } from '../strategies/index.js'
import type { StrategyOptions } from '../strategies/strategy.js'
import { type RunConfig, resolveConfig } from '../train/config/config.js'
import { asApiError, checked, invalid, unsupported } from './errors.js'
import { type Grader, graderOf } from './graders/grader.js'

const auto = <T extends z.ZodType>(value: T) =>
  z.union([z.literal('auto'), value], { error: 'expected auto or a number' }).nullish()
const sharedShape = {
  n_epochs: auto(z.int().min(1).max(50)),
  batch_size: auto(z.int().min(1).max(256)),
  learning_rate_multiplier: auto(z.number().gt(0)),
}
/** Answers to a prompt in a step, times `compute_multiplier`. */
const ANSWERS = 8
/** Methods by their names at OpenAI: hyperparameters of their own with what `auto` is, and the task of the run. */
const METHODS = {
  supervised: { task: 'causal_lm', tellsAccuracy: true, shape: {}, usual: {} },
  dpo: {
    task: 'dpo',
    tellsAccuracy: false,
    shape: { beta: auto(z.number().gt(0).max(2)) },
    usual: { beta: 0.1 },
  },
  reinforcement: {
    task: 'grpo',
    tellsAccuracy: false,
    shape: {
      compute_multiplier: auto(z.number().gt(1e-5).max(10)),
      eval_interval: auto(z.int().min(1)),
      eval_samples: auto(z.int().min(1)),
      reasoning_effort: z
        .enum(['default', 'low', 'medium', 'high'], { error: 'expected default, low, medium or high' })
        .nullish(),
    },
    usual: { compute_multiplier: 1, eval_samples: 1, reasoning_effort: 'default' },
  },
} as const
type Method = keyof typeof METHODS

const settingsOf = <Shape extends z.ZodRawShape>({ shape }: { shape: Shape }) =>
  z.strictObject({ hyperparameters: z.strictObject({ ...sharedShape, ...shape }).nullish() }).nullish()
const { hyperparameters: reinforced } = settingsOf(METHODS.reinforcement).unwrap().unwrap().shape

const requestSchema = z.strictObject({
  model: z.string({ error: 'expected the name of a model' }).min(1),
  training_file: z.string({ error: 'expected the id of a file' }).min(1),
  validation_file: z.string({ error: 'expected the id of a file, or null' }).nullish(),
  suffix: z
    .string()
    .min(1)
    .max(64)
    .regex(/^[A-Za-z0-9_-]+$/, { error: 'expected letters, digits, - and _' })
    .nullish(),
  seed: z.int().min(0).max(2147483647).nullish(),
  metadata: z
    .record(z.string().max(64), z.string({ error: 'expected a string of at most 512 characters' }).max(512))
    .refine((all) => Object.keys(all).length <= 16, { error: 'expected at most 16 keys' })
    .nullish(),
  method: z
    .discriminatedUnion(
      'type',
      [
        z.strictObject({ type: z.literal('supervised'), supervised: settingsOf(METHODS.supervised) }),
        z.strictObject({ type: z.literal('dpo'), dpo: settingsOf(METHODS.dpo) }),
        z.strictObject({
          type: z.literal('reinforcement'),
          reinforcement: z.strictObject({
            grader: z.unknown(),
            hyperparameters: reinforced,
            response_format: z.unknown().optional(),
          }),
        }),
      ],
      { error: 'expected supervised, dpo or reinforcement' },
    )
    .nullish(),
  hyperparameters: z.strictObject(sharedShape).nullish(),
  integrations: z.array(z.unknown()).nullish(),
  lowrank: z.record(z.string(), z.unknown()).nullish(),
})

/** A request to create a job, as it came. */
export type JobRequest = z.infer<typeof requestSchema>

/** Hyperparameters as numbers. */
export interface Hyperparameters {
  n_epochs: number
  batch_size: number
  learning_rate_multiplier: number
  beta?: number
  compute_multiplier?: number
  eval_interval?: number
  eval_samples?: number
  reasoning_effort?: string
}

/** Keys of a config that are the server's: places, the model, and what shares the machine. */
const SERVERS_KEYS = [
  ...[
    'model',
    'init_adapter',
    'revision',
    'dataset',
    'eval_dataset',
    'output_dir',
    'chat_template',
    'reward_functions',
    'report',
  ],
  ...[
    'report_to',
    'quantization',
    'embedding_quantization',
    'precision',
    'paged_weights',
    'device',
    'threads',
  ],
  ...[
    'split',
    'labels',
    'task',
    'num_train_epochs',
    'max_steps',
    'save_steps',
    'save_total_limit',
    'sample_rows',
  ],
  ...['per_device_train_batch_size', 'gradient_accumulation_steps', 'seed'],
]
/** Rows of a micro-batch, of which a step has as many as its batch size asks for. */
const MICRO_BATCH = 4

/** @throws {ApiError} that names the first mistake */
export function jobRequest(body: unknown): JobRequest {
  const request = checked(requestSchema, body)
  const { method, hyperparameters, integrations, lowrank } = request
  if (integrations != null && integrations.length > 0)
    throw unsupported('integrations', "this server sends nothing to others; read the job's events instead")
  if (hyperparameters != null && method != null)
    throw invalid('hyperparameters', "Give the hyperparameters in 'method' alone.")
  for (const key of Object.keys(lowrank ?? {}))
    if (SERVERS_KEYS.includes(key))
      throw invalid(
        `lowrank.${key}`,
        `'lowrank.${key}' cannot be set by a job: the server or another parameter decides it.`,
      )
  if (method?.type === 'reinforcement') checkReinforcement(request, method.reinforcement)
  return request
}

type Reinforcement = Extract<NonNullable<JobRequest['method']>, { type: 'reinforcement' }>['reinforcement']

function checkReinforcement(
  request: JobRequest,
  { response_format: format, hyperparameters }: Reinforcement,
): void {
  const at = 'method.reinforcement'
  graderIn(request)
  if (format != null)
    throw unsupported(
      `${at}.response_format`,
      'answers are drawn freely; reward the right form with a grader that reads sample.output_json',
    )
  const { eval_samples: samples, compute_multiplier: compute } = hyperparameters ?? {}
  if (typeof samples === 'number' && samples > 1)
    throw unsupported(
      `${at}.hyperparameters.eval_samples`,
      `the reward of a validation row is that of its greedy answer, of which there is one; got ${samples}`,
    )
  if (typeof compute === 'number' && request.lowrank?.num_generations !== undefined)
    throw invalid(
      'lowrank.num_generations',
      "Give either 'lowrank.num_generations' or 'compute_multiplier', which sets the same.",
    )
}

/** The grader of a reinforcement job; undefined for other jobs. @throws {ApiError} for one that cannot be had */
export function graderIn({ method }: JobRequest): Grader | undefined {
  if (method?.type !== 'reinforcement') return undefined
  return graderOf(method.reinforcement.grader, ['method', 'reinforcement', 'grader'])
}

export function methodOf({ method }: JobRequest): Method {
  return method?.type ?? 'supervised'
}

type Given = Readonly<Record<string, number | string | null | undefined>>

/** The hyperparameters of a request; the older place of them means the supervised method. */
function givenTo({ method, hyperparameters }: JobRequest): Given {
  const settings =
    method && (method as Partial<Record<Method, { hyperparameters?: Given | null } | null>>)[method.type]
  return settings?.hyperparameters ?? hyperparameters ?? {}
}

/** Hyperparameters as they are shown before the rows are counted. */
export function asGiven(request: JobRequest): Record<string, number | string> {
  const keys = [...Object.keys(sharedShape), ...Object.keys(METHODS[methodOf(request)].shape)]
  const given = givenTo(request)
  return Object.fromEntries(
    keys.map((key) => [key, given[key] ?? (key === 'reasoning_effort' ? 'default' : 'auto')]),
  )
}

/**
 * Hyperparameters of a job. `auto` is three epochs, or more until some 300 rows are seen, at most ten; batches of 0.2 %
 * of the rows, as a power of two; the usual learning rate of the strategy; an evaluation at the end of every epoch; and
 * what the method says for its own.
 */
export function hyperparametersOf(request: JobRequest, rows: number): Hyperparameters {
  const given = givenTo(request)
  const share = Math.min(256, Math.max(1, Math.round(rows * 0.002)))
  const usual = {
    n_epochs: Math.min(10, Math.max(3, Math.ceil(300 / rows))),
    batch_size: 2 ** Math.round(Math.log2(share)),
    learning_rate_multiplier: 1,
    ...METHODS[methodOf(request)].usual,
  }
  const resolved = Object.entries(usual).map(([key, value]) => {
    const one = given[key]
    return [key, one == null || one === 'auto' ? value : one]
  })
  const numbers = Object.fromEntries(resolved) as Hyperparameters
  if (methodOf(request) !== 'reinforcement') return numbers
  const { eval_interval: interval } = given
  return {
    ...numbers,
    eval_interval: typeof interval === 'number' ? interval : stepsPerEpoch(rows, numbers.batch_size),
  }
}

/** Where a job reads and writes. */
export interface JobPlaces {
  model: string
  training: string
  validation: string | null
  /** The adapter that the job starts from, and its strategy; null for a new one. */
  start: { adapter: string; strategy: StrategyOptions } | null
  output: string
}

/** The places of a job in its folder. @param strategy that of the model that the job starts from */
export function placesIn(
  folder: string,
  model: string,
  request: JobRequest,
  strategy: StrategyOptions | null,
): JobPlaces {
  return {
    ...{ model, training: join(folder, 'training.jsonl'), output: join(folder, 'run') },
    validation: request.validation_file == null ? null : join(folder, 'validation.jsonl'),
    start: strategy && { adapter: join(folder, 'start'), strategy },
  }
}

/**
 * The config of a job's run.
 * @throws {ApiError} for keys in `lowrank` that are no config
 */
export function jobConfig(
  request: JobRequest,
  numbers: Hyperparameters,
  seed: number,
  rows: number,
  places: JobPlaces,
): RunConfig {
  const { batch_size: batch, n_epochs: epochs, learning_rate_multiplier: multiplier, beta } = numbers
  const epochSteps = stepsPerEpoch(rows, batch)
  const micro = batch % MICRO_BATCH === 0 ? MICRO_BATCH : batch % 2 === 0 ? 2 : 1
  const { task, tellsAccuracy } = METHODS[methodOf(request)]
  const given = { strategy: places.start?.strategy ?? 'lora', ...request.lowrank }
  const raw = {
    packing: false,
    ...(tellsAccuracy ? { token_accuracy: true } : {}),
    ...reinforcing(request, numbers),
    ...given,
    ...(typeof given.strategy === 'string' ? { strategy: { name: given.strategy } } : {}),
    model: places.model,
    init_adapter: places.start?.adapter ?? null,
    dataset: places.training,
    ...(places.validation === null
      ? {}
      : { eval_dataset: places.validation, eval_steps: numbers.eval_interval ?? epochSteps }),
    output_dir: places.output,
    num_train_epochs: epochs,
    per_device_train_batch_size: micro,
    gradient_accumulation_steps: batch / micro,
    save_steps: epochSteps,
    save_total_limit: 3,
    seed,
    task,
    ...(beta === undefined ? {} : { beta }),
  }
  try {
    const config = resolveConfig(raw, { name: 'lowrank', spelling: 'snake' }, places.output)
    if (rulesOf(config.strategy).saves === 'model')
      throw invalid(
        'lowrank.strategy',
        `Jobs train adapters, which answer beside their base, and '${config.strategy.name}' trains a whole model; use lowrank train.`,
      )
    if ('lowrank' in request && request.lowrank?.learning_rate !== undefined) return config
    return { ...config, learningRate: ownRate(config.strategy, config.optimizer) * multiplier }
  } catch (error) {
    throw asApiError(error, 'lowrank')
  }
}

/** Keys of a config that are those of reinforcement. */
function reinforcing(request: JobRequest, { compute_multiplier: compute = 1 }: Hyperparameters) {
  if (methodOf(request) !== 'reinforcement') return {}
  return {
    num_generations: Math.max(2, Math.round(ANSWERS * compute)),
    // A config names modules, and the function of a job is made of its grader, whenever its run begins.
    reward_functions: 'grader',
    ...(request.validation_file == null ? {} : { metric_for_best_model: 'reward' }),
  }
}

export function stepsPerEpoch(rows: number, batch: number): number {
  return Math.max(1, Math.ceil(rows / batch))
}
