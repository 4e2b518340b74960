/** Output of `lowrank inspect --json`. */
import * as z from 'zod'
import { bytes, count } from './fields.js'

/** Values shown unchanged from the file. */
const raw = (key: string) => z.unknown().describe(`${key} of adapter_config.json; null if it is absent`)

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
  program: z
    .enum(['PEFT', 'mlx-lm'])
    .nullable()
    .describe('Program whose folders have its form; null for a state dict or a GGUF file'),
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
  bytes: bytes.describe('Bytes of the files'),
  supported: z.boolean().describe('True if it can be loaded'),
  reason: z.string().optional().describe('Why not'),
  remarks: z.array(z.string()).optional().describe('What had to be assumed'),
}

const place = {
  path: z.string(),
  line: count,
  unit: z.literal('row').optional().describe('Present if line counts rows'),
}

const repeats = z.object({
  rows: count,
  examples: z.array(z.object({ ...place, first: z.object(place) })).describe('The first of them'),
})

export const printed = z.discriminatedUnion('kind', [
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
    bytes: bytes.describe('Bytes of the tensors in the files'),
    tokenizer: z.union([
      z.object({
        vocab_size: count,
        bos: z.string().nullable(),
        eos: z.string().nullable(),
        chat_template: z.boolean(),
      }),
      z.object({ error: z.string() }),
    ]),
    supported: z.boolean().describe('True if it can be loaded'),
    reason: z.string().optional().describe('Why not'),
    unused_tensors: z.array(z.string()).describe('Tensors of the files that the model does not use'),
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
    classes: z
      .array(z.object({ label: z.string(), rows: count }))
      .optional()
      .describe(
        'Rows by class, the most frequent one first: of a classifier, or of completions that are one of a few short texts',
      ),
    remarks: z.array(z.string()).describe('Things that may be mistakes; usually empty'),
    tokens: z
      .object({
        total: count,
        min: count,
        median: count,
        mean: z.number().nonnegative(),
        p95: count.describe('95th percentile'),
        max: count,
      })
      .optional()
      .describe(
        'With --model, like all fields below: tokens of all rows and of single ones, before truncation',
      ),
    histogram: z
      .array(z.object({ from: count, to: count, rows: count }))
      .optional()
      .describe('Rows by their number of tokens'),
    supervised_tokens: count.optional().describe('Tokens that are trained on'),
    dropped: z
      .object({ nothing_to_learn: count, truncated_away: count })
      .optional()
      .describe('Rows that are left out, by reason'),
    truncated: count.optional().describe('Rows that are cut'),
    truncated_tokens: count.optional().describe('Tokens that they lose'),
    empty_turns: count.optional().describe('Assistant turns that are not trained on, since they are empty'),
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
      .describe('Some rows as the model sees them, in pieces that are trained on or not'),
  }),
])
