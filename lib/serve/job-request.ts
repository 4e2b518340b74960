/** Requests for fine-tuning jobs, and the configs of their runs. */
import { join } from 'node:path'
import * as z from 'zod'
import { ownRate } from '../options/rates.js'
import { type RunConfig, resolveConfig } from '../train/config/config.js'
import { asApiError, checked, invalid, unsupported } from './errors.js'

const auto = <T extends z.ZodType>(value: T) =>
  z.union([z.literal('auto'), value], { error: 'expected auto or a number' }).nullish()
const sharedShape = {
  n_epochs: auto(z.int().min(1).max(50)),
  batch_size: auto(z.int().min(1).max(256)),
  learning_rate_multiplier: auto(z.number().gt(0)),
}
/** Methods by their names at OpenAI: hyperparameters of their own with what `auto` is, and the task of the run. */
const METHODS = {
  supervised: { task: 'causal_lm', tellsAccuracy: true, shape: {}, usual: {} },
  dpo: {
    task: 'dpo',
    tellsAccuracy: false,
    shape: { beta: auto(z.number().gt(0).max(2)) },
    usual: { beta: 0.1 },
  },
} as const
type Method = keyof typeof METHODS

const settingsOf = <Shape extends z.ZodRawShape>({ shape }: { shape: Shape }) =>
  z.strictObject({ hyperparameters: z.strictObject({ ...sharedShape, ...shape }).nullish() }).nullish()

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
      ],
      { error: 'expected supervised or dpo' },
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
}

/** Keys of a config that are the server's: places, the model, and what shares the machine. */
const SERVERS_KEYS = [
  ...[
    'model',
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
  return request
}

export function methodOf({ method }: JobRequest): Method {
  return method?.type ?? 'supervised'
}

type Given = Readonly<Record<string, number | 'auto' | null | undefined>>

/** The hyperparameters of a request; the older place of them means the supervised method. */
function givenTo({ method, hyperparameters }: JobRequest): Given {
  const settings =
    method && (method as Partial<Record<Method, { hyperparameters?: Given | null } | null>>)[method.type]
  return settings?.hyperparameters ?? hyperparameters ?? {}
}

/** Hyperparameters as they are shown before the rows are counted. */
export function asGiven(request: JobRequest): Record<string, number | 'auto'> {
  const keys = [...Object.keys(sharedShape), ...Object.keys(METHODS[methodOf(request)].shape)]
  const given = givenTo(request)
  return Object.fromEntries(keys.map((key) => [key, given[key] ?? 'auto']))
}

/**
 * Hyperparameters of a job. `auto` is three epochs, or more until some 300 rows are seen, at most ten; batches of 0.2 %
 * of the rows, as a power of two; the usual learning rate of the strategy; and what the method says for its own.
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
  const numbers = Object.entries(usual).map(([key, value]) => {
    const one = given[key]
    return [key, typeof one === 'number' ? one : value]
  })
  return Object.fromEntries(numbers) as Hyperparameters
}

/** Where a job reads and writes. */
export interface JobPlaces {
  model: string
  training: string
  validation: string | null
  output: string
}

/** The places of a job in its folder. */
export function placesIn(folder: string, model: string, request: JobRequest): JobPlaces {
  return {
    ...{ model, training: join(folder, 'training.jsonl'), output: join(folder, 'run') },
    validation: request.validation_file == null ? null : join(folder, 'validation.jsonl'),
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
  const micro = batch % MICRO_BATCH === 0 ? MICRO_BATCH : batch % 2 === 0 ? 2 : 1
  const { task, tellsAccuracy } = METHODS[methodOf(request)]
  const given = { strategy: 'lora', ...request.lowrank }
  const raw = {
    packing: false,
    ...(tellsAccuracy ? { token_accuracy: true } : {}),
    ...given,
    ...(typeof given.strategy === 'string' ? { strategy: { name: given.strategy } } : {}),
    model: places.model,
    dataset: places.training,
    ...(places.validation === null
      ? {}
      : { eval_dataset: places.validation, eval_steps: stepsPerEpoch(rows, batch) }),
    output_dir: places.output,
    num_train_epochs: epochs,
    per_device_train_batch_size: micro,
    gradient_accumulation_steps: batch / micro,
    save_steps: stepsPerEpoch(rows, batch),
    save_total_limit: 3,
    seed,
    task,
    ...(beta === undefined ? {} : { beta }),
  }
  try {
    const config = resolveConfig(raw, { name: 'lowrank', spelling: 'snake' }, places.output)
    if ('lowrank' in request && request.lowrank?.learning_rate !== undefined) return config
    return { ...config, learningRate: ownRate(config.strategy, config.optimizer) * multiplier }
  } catch (error) {
    throw asApiError(error, 'lowrank')
  }
}

export function stepsPerEpoch(rows: number, batch: number): number {
  return Math.max(1, Math.ceil(rows / batch))
}
