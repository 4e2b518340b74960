/**
 * Output of every verb with --json: the contract with programs. These schemas are also the types of the output, so
 * that a verb which prints something else does not compile, and scripts/schemas.mjs publishes them as schemas/*.json.
 * Fields may be added; those that are here stay, with their meaning. Bytes are integers, losses nats per supervised
 * token.
 */
import * as z from 'zod'
import { type JsonSchema, jsonSchemaOf } from '../core/schema.js'
import { EXPORT_FORMATS } from '../export/options.js'
import { planRow, privacyReport, trainEvents } from '../train/metrics.js'

const bytes = z.int().nonnegative()
const count = z.int().nonnegative()
const workCounts = z.object({
  launches: count,
  bytes_moved: bytes.describe('Read from memory and written to it, each operand once a launch'),
  workspace_bytes: bytes.describe('The most that a launch needs'),
  by_kernel: z.array(
    z.object({
      kernel: z.string(),
      launches: count,
      bytes_moved: bytes,
      workspace_bytes: bytes.describe('The most that a launch needs'),
    }),
  ),
})

/** The last line of any verb that fails. */
const errorLine = z
  .object({
    event: z.literal('error'),
    code: z.string().describe('Stable name of the cause; docs/troubleshooting.md has a section for each'),
    message: z.string().describe('For people; the words may change'),
    details: z
      .record(z.string(), z.unknown())
      .describe('What the message is made of, such as a path and a line'),
  })
  .describe('The verb failed; always the last line')

/** Time of the steps of a run. */
const time = z.object({
  seconds_per_step: z.number().positive().describe('Of an optimizer step'),
  tokens_per_step: count.describe('Of a step whose micro-batches are full'),
  tokens_per_second: z.number().positive(),
  steps: count.nullable().describe('Still to be made; null where that depends on data that is not known'),
  run_seconds: z
    .number()
    .nonnegative()
    .nullable()
    .describe('Of these steps, without evaluations, checkpoints and loading'),
  machine: z.string().nullable().describe('Whose figures these are; null: measured on this machine'),
})

const plan = z.object({
  model: z.string(),
  method: z.string().describe('Name of the strategy'),
  trainable_parameters: count.describe('Numbers that train'),
  total_parameters: count.describe('All numbers of base and adapter'),
  peak_bytes: bytes.describe('Most bytes that training will hold at once'),
  rows: z.array(planRow).readonly().describe('What they are made of; the rows add up to peak_bytes'),
  process: z
    .object({
      bytes: bytes.describe('The whole process, as the system counts it'),
      runtime_bytes: bytes.describe('Of that, Node.js and JavaScript'),
      data_bytes: bytes.describe('Of that, the data'),
    })
    .describe('Estimated, from a short run on this machine'),
  time: time.nullable().describe('Estimated; null where it is not known'),
  arena_bytes: bytes.describe('The block that activations, loss and workspace share'),
  peak_at: z.string().describe('Where in the model the peak is'),
  quantization: z.string().describe('How the frozen linears are held, as resolved'),
  embedding_quantization: z.string().describe('How embedding and head are held, as resolved'),
  precision: z.enum(['fp32', 'bf16']).describe('Of matrix operands, as resolved'),
  privacy: privacyReport.optional(),
  timeline: z
    .object({
      resident_bytes: bytes.describe('Held throughout: all but the arena'),
      steps: z.array(
        z.object({
          phase: z.enum(['forward', 'recompute', 'backward']),
          kernel: z.string(),
          node: z.string().describe('Path in the model'),
          live_bytes: bytes.describe('Of the arena'),
          multiply_adds: z.number().nonnegative().describe('Of products with base weights'),
        }),
      ),
    })
    .optional()
    .describe('With --timeline: the steps of the plan in order'),
  kernels: workCounts
    .extend({
      uploaded_bytes: bytes.describe('The micro-batch'),
      downloaded_bytes: z.record(z.string(), bytes).describe('By what the host reads'),
      stashed_bytes: bytes.describe('Activations that are offloaded'),
      fetched_bytes: bytes.describe('Activations that come back'),
      update: workCounts
        .optional()
        .describe(
          "The optimizer's update after the last micro-batch; absent if it is made in the backward pass",
        ),
    })
    .optional()
    .describe('With --kernels: the work of a micro-batch, counted without weights and without computing'),
  fit: z
    .object({
      budget_bytes: bytes,
      choices: z.array(
        z.object({
          per_device_train_batch_size: count,
          gradient_accumulation_steps: count,
          gradient_checkpointing: z.boolean(),
          activation_offloading: z.literal(true).optional().describe('Where other than asked for'),
          optimizer_in_backward: z.literal(true).optional().describe('Where other than asked for'),
          optimizer: z
            .union([z.string(), z.looseObject({ type: z.string() })])
            .optional()
            .describe('Where other than asked for, as a config has it'),
          paged_weights: z
            .union([z.literal(true), z.string()])
            .optional()
            .describe('Where other than asked for, as a config has it'),
          peak_bytes: bytes,
          multiply_adds: z.number().nonnegative().describe('Of an optimizer step'),
          activation_bytes_moved: bytes.describe('Of activations on disk: written and read by a micro-batch'),
          state_bytes_moved: bytes.describe(
            'Of paged optimizer state: read and written by an optimizer step',
          ),
          base_bytes_read: bytes.describe('Of a paged base: read from the disk by a micro-batch'),
        }),
      ),
    })
    .optional()
    .describe(
      'With --fit: what fits; first what changes neither optimizer nor paged_weights, then what changes least, each by speed. All else is of the first',
    ),
})

const evaluated = z.object({
  model: z.string(),
  adapters: z
    .array(z.object({ path: z.string(), weight: z.number().describe('What its output is multiplied by') }))
    .readonly(),
  dataset: z.union([z.string(), z.array(z.string()).readonly()]).describe('As it was named'),
  eval_fraction: z
    .number()
    .nullable()
    .describe('Share of the dataset that the run held out and that was evaluated; null for all of it'),
})
const supervisedTokens = count.describe('Tokens that have a label')

const evaluation = [
  evaluated.extend({
    metric: z.literal('loss'),
    loss: z.number().describe('Mean over the supervised tokens in nats'),
    perplexity: z.number().describe('exp(loss)'),
    tokens: count.describe('All tokens of the data'),
    supervised_tokens: supervisedTokens,
  }),
  evaluated.extend({
    metric: z.literal('exact_match'),
    exact_match: z.number().describe('Share of rows that greedy generation answers word for word'),
    matched_rows: count.describe('Number of these rows'),
    rows: count.describe('Rows that have anything to answer'),
  }),
  evaluated.extend({
    metric: z.literal('accuracy'),
    accuracy: z
      .number()
      .describe(
        'Share of the supervised tokens that the model finds likeliest, given the tokens before them',
      ),
    supervised_tokens: supervisedTokens,
  }),
] as const

const generation = z.object({
  prompt: z.string(),
  text: z.string().describe('The answer, without special tokens'),
  tokens: count.describe('Tokens of the answer'),
  finish_reason: z.enum(['stop', 'length']).describe('stop at an end token, length at --max-new-tokens'),
  tokens_per_second: z.number().nonnegative().describe('Of the decoding'),
})

const chat = [
  generation
    .extend({
      event: z.literal('answer'),
      prompt_tokens: count.describe('Tokens of the history with the question'),
      reused_tokens: count.describe('How many of them were in the cache'),
      dropped_messages: count.describe('Messages that no longer fit the context'),
    })
    .describe('A turn was answered'),
  z
    .object({
      event: z.literal('adapter'),
      adapters: z.array(z.object({ name: z.string(), weight: z.number().describe('0 is off') })),
    })
    .describe('After /adapter'),
  z.object({ event: z.literal('system'), system: z.string().nullable() }).describe('After /system'),
  z
    .object({ event: z.literal('reset') })
    .describe('After /reset, and after /adapter where it changed something'),
  z
    .object({ event: z.literal('save'), path: z.string(), messages: count.describe('How many were saved') })
    .describe('After /save'),
] as const

const survivalShares = {
  kept: z.number().describe('Share of the change that the written weights still have, by projection'),
  error: z.number().nonnegative().describe('Norm of what differs from the exact sum, in norms of the change'),
}

const written = z.object({
  output: z.string().describe('The file or folder that was written'),
  files: z.array(z.string()).readonly().describe('Names inside of it'),
  check: z
    .object({
      kl: z.number().describe('Mean Kullback-Leibler divergence from model and adapter, nats per token'),
      top1_agreement: z.number().min(0).max(1).describe('Share of positions with the same likeliest token'),
      max_abs_logit_error: z.number().nonnegative(),
      positions: count.describe('Tokens that were compared'),
    })
    .nullable()
    .describe('What was written, read back and compared; null with --no-check'),
  survival: z
    .object({
      ...survivalShares,
      tensors: z.array(z.object({ name: z.string(), ...survivalShares })),
    })
    .optional()
    .describe('What is left of an adapter that was merged into quantized weights; only there'),
})

const exported = written.extend({
  format: z.enum(EXPORT_FORMATS),
  remarks: z
    .array(z.string())
    .describe('What other programs do otherwise with what was written; mostly empty'),
})

/** Values that are shown as the file has them. */
const raw = (key: string) => z.unknown().describe(`${key} of adapter_config.json; null where it is absent`)

const checkpoints = z
  .array(
    z.object({
      path: z.string(),
      step: count,
      missing: z
        .string()
        .optional()
        .describe('A file that it lacks, without which it cannot be resumed from'),
    }),
  )
  .describe('The newest first')

const adapterFacts = {
  path: z.string(),
  peft_type: raw('peft_type'),
  base_model: raw('base_model_name_or_path'),
  task_type: raw('task_type'),
  r: raw('r'),
  oft_block_size: raw('oft_block_size'),
  lora_alpha: raw('lora_alpha'),
  lora_dropout: raw('lora_dropout'),
  use_rslora: raw('use_rslora'),
  target_modules: raw('target_modules'),
  modules: count.describe('Linears that it adapts'),
  tensors: count,
  dtypes: z.array(z.string()),
  parameters: count,
  bytes: bytes.describe('Of the files'),
  supported: z.boolean().describe('Whether it can be loaded'),
  reason: z.string().optional().describe('Why not'),
}

const place = {
  path: z.string(),
  line: count,
  unit: z.literal('row').optional().describe('Where line counts rows'),
}
const repeats = z.object({
  rows: count,
  examples: z.array(z.object({ ...place, first: z.object(place) })).describe('The first of them'),
})

const inspection = [
  z.object({
    kind: z.literal('model'),
    path: z.string(),
    format: z.enum(['folder', 'gguf']),
    architecture: z.string().nullable(),
    context: z.number().nullable().describe('Most tokens that the model was made for'),
    parameters: count,
    layers: z.number().nullable(),
    hidden_size: z.number().nullable(),
    tensors: count,
    dtypes: z.record(z.string(), count).describe('Number of tensors by type'),
    bytes: bytes.describe('Of the tensors in the files'),
    tokenizer: z.union([
      z.object({
        vocab_size: count,
        bos: z.string().nullable(),
        eos: z.string().nullable(),
        chat_template: z.boolean(),
      }),
      z.object({ error: z.string() }),
    ]),
    supported: z.boolean().describe('Whether it can be loaded'),
    reason: z.string().optional().describe('Why not'),
    unused_tensors: z.array(z.string()).describe('Tensors of the files that the model has no use for'),
    memory: z.record(z.string(), bytes).describe('Bytes of the weights in memory, by quantization'),
    fingerprint: z.string().describe('Hash of the content'),
  }),
  z.object({ kind: z.literal('adapter'), ...adapterFacts, checkpoints: checkpoints.optional() }),
  z.object({
    kind: z.literal('checkpoint'),
    ...adapterFacts,
    training: z.record(z.string(), z.unknown()).describe('As in training_state.json'),
  }),
  z.object({ kind: z.literal('run'), path: z.string(), checkpoints }),
  z.object({
    kind: z.literal('dataset'),
    path: z.string(),
    format: z.string().describe('Form of the rows'),
    rows: count,
    duplicates: z.object({
      rows: repeats.describe('Rows that are equal to an earlier one'),
      prompts: repeats.describe('Rows with the prompt of an earlier one and another answer'),
    }),
    remarks: z.array(z.string()).describe('What may not be meant so; mostly empty'),
    tokens: z
      .object({
        total: count,
        min: count,
        median: count,
        mean: z.number().nonnegative(),
        p95: count.describe('95 of 100 rows have at most so many'),
        max: count,
      })
      .optional()
      .describe(
        'With --model, as all that follows: tokens of all rows and of single ones, before any are cut',
      ),
    histogram: z
      .array(z.object({ from: count, to: count, rows: count }))
      .optional()
      .describe('Rows by their number of tokens'),
    supervised_tokens: count.optional().describe('Tokens that are learned'),
    dropped: z
      .object({ nothing_to_learn: count, truncated_away: count })
      .optional()
      .describe('Rows that are left out, by reason'),
    truncated: count.optional().describe('Rows that are cut'),
    truncated_tokens: count.optional().describe('Tokens that they lose'),
    empty_turns: count.optional().describe('Assistant turns that are not learned, since they are empty'),
    special_tokens: z
      .object({ rows: count, first: z.object({ ...place, token: z.string() }).optional() })
      .optional()
      .describe('Rows that have special tokens in their text, and the first of them'),
    lost_reasoning: z
      .object({ rows: count, first: z.object(place).optional() })
      .optional()
      .describe(
        'Rows with reasoning in earlier assistant turns that the chat template omits, and the first of them',
      ),
    examples: z
      .array(
        z.object({
          ...place,
          parts: z.array(z.object({ text: z.string(), trained: z.boolean() })),
        }),
      )
      .optional()
      .describe('Some rows as the model sees them, in pieces that are learned or not'),
  }),
] as const

const strategy = z.object({
  name: z.string(),
  paper: z.string(),
  peft_type: z.string().describe('peft_type of the files that it is saved as'),
  bases: z.array(z.string()).readonly().describe('Formats of the base that it runs on'),
  trainable: z.string().describe('What trains, in a few words'),
  learning_rate: z.number().positive().describe('Peak rate of a run that is given none'),
})

const part = z.object({ available: z.boolean(), reason: z.string() })

const machine = z.object({
  addon: z.union([
    z.object({ from: z.enum(['env', 'build', 'prebuild']), path: z.string(), version: z.string() }),
    z.object({ error: z.string().describe('Why the addon does not load') }),
  ]),
  cpu: z.object({
    model: z.string(),
    isa: z.string().optional().describe('Instruction set in use; this and what follows needs the addon'),
    levels: z.array(z.string()).optional().describe('Instruction sets that this machine has kernels for'),
    threads: count.optional(),
    cores: count.optional(),
    bf16: z.boolean().optional().describe('Whether bf16 is faster than fp32 here'),
  }),
  install: z.object({
    prebuilds: z
      .array(z.object({ file: z.string(), fits: z.boolean().describe('Whether it is for this platform') }))
      .describe('The prebuilt addons in the package'),
    missing_for_build: z
      .array(z.string())
      .describe('What a build from source lacks on this machine; nothing when it is empty'),
  }),
  cuda: part,
  mpi: part,
  node: z.object({ version: z.string(), napi: z.string(), platform: z.string(), arch: z.string() }),
  memory: z.object({ total_bytes: bytes, available_bytes: bytes }),
  environment: z.record(z.string(), z.string()).describe('The LOWRANK_ variables that are set'),
})

const score = z.object({ exact_match: z.number().min(0).max(1).describe('Share of answers that are right') })
const timeEvent = time
  .extend({ event: z.literal('time') })
  .describe('How long the steps will take, estimated; after `plan`, where it is known')

const samplesEvent = z
  .object({
    event: z.literal('samples'),
    held_out: z.boolean().describe('Whether the run did not train on these rows'),
    rows: z.array(
      z.object({
        prompt: z.string(),
        system: z.string().nullable().describe('The system prompt of the row'),
        expected: z.string(),
        base: z.string().describe('What the base answers'),
        tuned: z.string().describe('What the tuned model answers'),
        cut: z.boolean().describe('Whether an answer ended at the limit of tokens'),
      }),
    ),
    command: z.string().nullable().describe('Gives one of the tuned answers again'),
  })
  .describe('Rows were asked after the run, by default three; before done')

const demoEvent = z
  .object({
    event: z.literal('demo'),
    before: score,
    after: score,
    samples: z.array(
      z.object({
        prompt: z.string(),
        expected: z.string(),
        before: z.string().describe("The base model's answer"),
        after: z.string().describe("The tuned model's answer"),
      }),
    ),
  })
  .describe('How the model answers held-out questions before and after; comes before done')

const spreadOf = (what: string) =>
  z
    .object({ mean: z.number(), low: z.number(), high: z.number(), seeds: z.array(z.number()) })
    .describe(`${what}: mean, lowest and highest of several seeds, and each`)
const figureFiles = z.array(z.string()).describe('The picture, and this answer')
const studied = {
  epsilons: z.array(z.number()).readonly(),
  seeds: count,
  rounds: count,
  cohort: count,
  learning_rate: z.number(),
  clipping_norm: z.number(),
}
const utilityFigure = z.object({
  name: z.literal('privacy-utility'),
  task: z.string(),
  settings: z.object({
    ...studied,
    local_epochs: count,
    simulation: z.object({ population: count, cohort: count }),
  }),
  delta: z.number(),
  base: z.number().describe('Accuracy of the model as it is'),
  majority: z.number().describe('Share of the most frequent answer'),
  arms: z.array(
    z.object({
      arm: z.string(),
      points: z.array(
        z.object({
          epsilon: z.number().nullable().describe('null: without noise'),
          noise_multiplier: z.number(),
          accuracy: spreadOf('Share of held-out rows that are right'),
        }),
      ),
    }),
  ),
  reading: z.string().describe('What it shows, and what it does not'),
  files: figureFiles,
})
const canaryFigure = z.object({
  name: z.literal('canary'),
  settings: z.object({ ...studied, rows: count }),
  candidates: count.describe('Codes that the secret is ranked among, itself included'),
  chance: z.number().describe('Mean exposure of a code that was never seen'),
  points: z.array(
    z.object({
      epsilon: z.number().nullable().describe('null: without privacy'),
      exposure: spreadOf('Bits'),
      loss: z
        .number()
        .nullable()
        .describe('Of the last round that drew a row, mean over the seeds; null where none did'),
    }),
  ),
  reading: z.string().describe('What it shows, and what it does not'),
  files: figureFiles,
})

const memoryStudy = {
  settings: z.object({
    rank: count,
    per_device_train_batch_size: count,
    max_seq_length: count,
    gradient_checkpointing: z.boolean(),
    precision: z.enum(['auto', 'fp32', 'bf16']),
  }),
  bars: z.array(
    z.object({
      model: z.string(),
      method: z.string(),
      planned_bytes: bytes.describe('Peak of the plan'),
      rows: z.array(planRow).readonly().describe('What it is made of'),
      measured: z
        .object({
          idle_bytes: bytes.describe('Resident before the model was loaded'),
          idle_anonymous_bytes: bytes.describe('Of that, memory of the process'),
          load_peak_bytes: z.int().describe('Peak above that while it was loaded'),
          peak_bytes: z.int().describe('Peak above it from then to the last step'),
          anonymous_bytes: bytes.describe(
            'Of that time, memory of the process as often looked at, Node.js included',
          ),
          file_bytes: bytes.describe('The same of pages of files'),
          pss_anonymous_bytes: bytes.describe(
            'As anonymous_bytes, less often looked at, with pages that others share counted in part',
          ),
          pss_file_bytes: bytes.describe('The same of pages of files'),
          cached_weight_bytes: bytes
            .optional()
            .describe('What the page cache held of the file that the weights were mapped from'),
        })
        .optional()
        .describe('Absent where the training was planned only'),
    }),
  ),
}
const memoryFigure = z.object({ name: z.literal('memory'), ...memoryStudy, files: figureFiles })

const cache = z.object({
  action: z.enum(['list', 'check', 'clear']),
  folder: z.string().describe('Where the files are'),
  limit_bytes: bytes.describe('Most bytes that are kept'),
  bytes: bytes.describe('Of the files below'),
  files: z
    .array(
      z.object({
        name: z.string(),
        model: z.string().describe('Name of the folder or file that it was made of'),
        quantization: z.string().describe('How the linears are held'),
        bytes,
        last_used: z.string().describe('ISO 8601'),
        state: z
          .enum(['whole', 'damaged'])
          .optional()
          .describe('Of check: whether it has the bytes that were written; a damaged file was removed'),
      }),
    )
    .describe('The last used first; of clear, those that were removed'),
  downloads: z
    .object({
      folder: z.string().describe("The hub's cache"),
      bytes: bytes.describe('Of the files below'),
      files: z.array(
        z.object({
          model: z.string().describe('owner/name'),
          names: z.array(z.string()).describe('Its paths in the repository'),
          path: z.string(),
          hash: z.string().describe('What it must hash to: SHA-256, or for small files the hash of git'),
          bytes,
          state: z.enum(['whole', 'damaged']).describe('A damaged file is not used any more'),
        }),
      ),
    })
    .optional()
    .describe('Of check: files that were downloaded from the hub'),
  seconds: z.number().optional().describe('Of check: how long reading took'),
})

/** Lines of stdout of a successful verb: its answer, or one of its events. */
export const printed = {
  train: z.discriminatedUnion('event', [...trainEvents, timeEvent, samplesEvent]),
  demo: z.discriminatedUnion('event', [...trainEvents, demoEvent]),
  plan,
  eval: z.discriminatedUnion('metric', evaluation),
  generate: generation,
  chat: z.discriminatedUnion('event', chat),
  merge: written,
  export: exported,
  inspect: z.discriminatedUnion('kind', inspection),
  figures: z.discriminatedUnion('name', [utilityFigure, canaryFigure, memoryFigure]),
  bench: z.discriminatedUnion('what', [
    z.object({ what: z.literal('memory'), ...memoryStudy }),
    z.object({
      what: z.literal('speed'),
      settings: memoryStudy.settings.extend({ steps: count, new_tokens: count }),
      methods: z.array(
        z.object({
          method: z.string(),
          training_tokens_per_second: z.number().describe('Median over the steps'),
          share_of_peak: z
            .number()
            .nullable()
            .describe(
              'Products with base weights in a training step against the arithmetic peak; null without one',
            ),
          evaluation_tokens_per_second: z.number(),
          generation_tokens_per_second: z.number().describe('One after the other, the prompt not counted'),
          javascript_share: z.number().describe('Of the time of the steps, in which the event loop was busy'),
          longest_block_ms: z.number().describe('For how long at most nothing else could run on it'),
        }),
      ),
    }),
    z.object({
      what: z.literal('kernels'),
      settings: memoryStudy.settings.omit({ gradient_checkpointing: true }).extend({
        precision: z.enum(['fp32', 'bf16']).describe('Of matrix operands, as resolved'),
        format: z.string().describe('How weights of linears are held'),
        rounds: count,
        level: z.string().describe('Instruction-set level'),
        threads: count,
      }),
      kernels: z.array(
        z.object({
          kernel: z.enum(['linear', 'attention', 'head_loss']),
          name: z.enum(['forward', 'input_gradient', 'adapter_gradient', 'backward', 'forward_backward']),
          shape: z.record(z.string(), z.union([z.number(), z.string()])),
          count: count.describe('How often a training step has it'),
          seconds: z.number().describe('Of a call, the best of the rounds'),
          operations_per_second: z.number().describe('A multiply-add being two'),
          share_of_peak: z
            .number()
            .nullable()
            .describe('Of a loop of multiply-adds between the rounds; null where the level has none'),
          extra_bytes: z.int().optional().describe('Of head and loss: what the first call made resident'),
        }),
      ),
    }),
  ]),
  strategies: z.array(strategy),
  cache,
  doctor: machine,
}

/** A verb that has a schema of what it prints; every verb must. */
export type Verb = keyof typeof printed

/** Output of a verb: its one answer, or an event of its stream. */
export type Printed<Name extends Verb> = z.infer<(typeof printed)[Name]>

/** The line that ends stdout when any verb fails. */
export type ErrorLine = z.infer<typeof errorLine>

/**
 * JSON Schemas by file name: of a line of stdout of each verb, of the line that tells an error, and of metrics.jsonl.
 */
export function outputSchemas(): Record<string, JsonSchema> {
  const verbs = Object.entries(printed).map(([verb, schema]) => [
    `${verb}.schema.json`,
    publish(`a line of lowrank ${verb} --json`, z.union([schema, errorLine])),
  ])
  return {
    ...Object.fromEntries(verbs),
    'error.schema.json': publish('the last line of a lowrank verb that fails with --json', errorLine),
    'metrics.schema.json': publish(
      'a line of metrics.jsonl of a lowrank run',
      z.discriminatedUnion('event', trainEvents),
    ),
  }
}

/** Written as of input, a schema says nothing of fields that it does not know: they are fine. */
function publish(title: string, schema: z.ZodType): JsonSchema {
  const { $schema, ...rest } = jsonSchemaOf(schema)
  return { $schema, title, ...rest }
}
