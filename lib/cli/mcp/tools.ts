/** Names, descriptions, and schemas of the tools. Every conversation has them in its context, so they are brief. */
import * as z from 'zod'
import { EXPORT_DTYPES, EXPORT_FORMATS } from '../../export/options.js'

const job = z.string().describe('Id of a job')
const model = z.string().describe('Model folder or .gguf file in an allowed folder')
const dataset = z.string().describe('Data file or folder: .jsonl, .json, .csv, .tsv, .parquet, .txt')
const columns = z
  .record(z.string(), z.string())
  .describe('Column of the data for each that the format expects, such as {"prompt": "question"}')
const run = {
  dataset: dataset.optional(),
  columns: columns.optional(),
  eval_dataset: dataset.describe('Held-out data').optional(),
  config: z
    .record(z.string(), z.unknown())
    .optional()
    .describe(
      'Other keys of a lowrank config, such as {"strategy": {"name": "qlora", "adapter": {"name": "lora", "r": 16}}, "num_train_epochs": 3, "max_seq_length": 1024}; none that names a path',
    ),
}
const budget = z
  .strictObject({
    minutes: z
      .number()
      .positive()
      .max(43_200)
      .describe('Most minutes; the job stops there with a checkpoint'),
    memory: z.string().max(20).describe('Most memory, such as 8GiB'),
  })
  .describe('What the user agreed to spend')

const bytes = z.int().nonnegative()
const plan = {
  peak_bytes: bytes.describe('Peak of weights, adapter, optimizer, and activations'),
  process_bytes: bytes.describe('Memory of the whole process'),
  available_bytes: bytes,
  fits: z.boolean(),
  steps: z.int().nullable(),
  seconds: z.number().nullable().describe('Of the steps; null: unknown'),
}

export const STATES = ['queued', 'running', 'succeeded', 'failed', 'stopped'] as const
const state = z.enum(STATES)

const begun = {
  job,
  planned_bytes: bytes,
  planned_seconds: z.number().nullable(),
  output: z.string().describe('Folder of the job'),
}

/** Annotations. */
const READS = { readOnlyHint: true, openWorldHint: false }
const WRITES = { readOnlyHint: false, destructiveHint: false, openWorldHint: false }

export const TOOLS = {
  plan: {
    title: 'Plan a training',
    description:
      'Computes the memory and time of a training, without running it. Call it before train and read bytes and minutes to the user.',
    input: z.strictObject({ model, ...run }),
    output: z.strictObject({
      ...plan,
      strategy: z.string(),
      trainable_parameters: z.int(),
      total_parameters: z.int(),
      rows: z.array(z.strictObject({ category: z.string(), bytes })).describe('Parts of peak_bytes'),
    }),
    annotations: { ...READS, idempotentHint: true },
  },
  inspect: {
    title: 'Inspect data',
    description:
      'Reads a dataset as training would: format, rows, tokens by the model, duplicates, and problems. Call it before train.',
    input: z.strictObject({ model: model.optional(), dataset, columns: columns.optional() }),
    output: z.strictObject({
      trainable: z.boolean(),
      format: z.string().nullable(),
      rows: z.int(),
      tokens: z
        .strictObject({ total: z.int(), longest: z.int(), median: z.number() })
        .nullable()
        .describe('With a model'),
      trained_tokens: z.int().nullable(),
      duplicates: z.int(),
      problems: z.array(z.string()),
      examples: z.array(z.string()).describe('Rows as the model sees them, [[trained on]]'),
    }),
    annotations: { ...READS, idempotentHint: true },
  },
  train: {
    title: 'Train an adapter',
    description:
      'Starts a training and returns its job at once; status waits for it. Clients with elicitation ask the user; others need the budget that the user agreed to after plan. With job: goes on with a stopped job.',
    input: z.strictObject({
      model: model.optional(),
      ...run,
      job: job.optional(),
      budget: budget.optional(),
    }),
    output: z.strictObject(begun),
    annotations: WRITES,
  },
  status: {
    title: 'Status of a job',
    description:
      'State, step, and losses of a job, by default the newest. wait: seconds to wait for its end, with progress notifications.',
    input: z.strictObject({
      job: job.optional(),
      wait: z.number().min(0).max(3600).optional().describe('Clients end calls after 60 s by default'),
    }),
    output: z.strictObject({
      job,
      kind: z.enum(['train', 'compare']),
      state,
      step: z.int(),
      total_steps: z.int().nullable(),
      loss: z.number().nullable(),
      eval_loss: z.number().nullable(),
      seconds_left: z.number().nullable(),
      output: z.string().describe('Folder of the result'),
      code: z.string().nullable(),
      message: z.string().nullable().describe('Why it failed or stopped'),
      notes: z.array(z.string()),
      samples: z
        .array(
          z.strictObject({ prompt: z.string(), expected: z.string(), base: z.string(), tuned: z.string() }),
        )
        .describe('Rows answered before and after'),
      table: z.string().nullable().describe('Of a compare'),
      jobs: z.array(z.strictObject({ job, state })).describe('The newest jobs'),
    }),
    annotations: { ...READS, idempotentHint: true },
  },
  stop: {
    title: 'Stop a job',
    description: 'Stops a job after its current step, with a checkpoint from which train {job} goes on.',
    input: z.strictObject({ job }),
    output: z.strictObject({ job, state, step: z.int() }),
    annotations: { ...WRITES, idempotentHint: true },
  },
  ask: {
    title: 'Ask a model',
    description:
      'Answers a prompt by the model of a job (also while it trains), or by a base model. Greedy without a temperature.',
    input: z.strictObject({
      job: job.optional(),
      model: model.optional(),
      prompt: z.string().min(1).max(200_000),
      system: z.string().max(200_000).optional(),
      max_new_tokens: z.int().min(1).max(4096).optional(),
      temperature: z.number().min(0).max(2).optional(),
    }),
    output: z.strictObject({
      text: z.string(),
      tokens: z.int(),
      step: z.int().nullable().describe('Of a job in training'),
    }),
    annotations: { ...READS, idempotentHint: true },
  },
  compare: {
    title: 'Compare strategies',
    description:
      'Starts a comparison of strategies on one model and dataset, as a job: each with its best learning rate and several seeds, cut to fit the minutes. status has the table. With job: goes on with a stopped compare.',
    input: z.strictObject({
      model: model.optional(),
      ...run,
      strategies: z.array(z.string()).min(1).max(20).optional(),
      seeds: z.int().min(1).max(20).optional(),
      job: job.optional(),
      budget,
    }),
    output: z.strictObject(begun),
    annotations: WRITES,
  },
  export: {
    title: 'Export a model',
    description:
      'Writes the model of a job for other programs: gguf (llama.cpp), ollama, vllm (adapter), gguf-lora (adapter), safetensors (merged). Replaces nothing.',
    input: z.strictObject({
      job,
      format: z.enum(EXPORT_FORMATS),
      output: z.string().describe('Path where nothing is yet, in an allowed folder'),
      dtype: z.enum(EXPORT_DTYPES).optional(),
    }),
    output: z.strictObject({
      output: z.string(),
      files: z.array(z.string()),
      remarks: z.array(z.string()),
      deviation: z.number().nullable().describe('Largest difference of a logit from the model'),
    }),
    annotations: WRITES,
  },
} as const

export type ToolName = keyof typeof TOOLS
export type Arguments<Name extends ToolName> = z.infer<(typeof TOOLS)[Name]['input']>
export type Result<Name extends ToolName> = z.infer<(typeof TOOLS)[Name]['output']>
